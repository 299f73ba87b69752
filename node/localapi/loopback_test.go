package localapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestLoopbackKeepsStrangersOut(t *testing.T) {
	l, err := ListenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const token = "0123456789abcdefghijkl"
	s := New(Options{Backend: newFakeMember()})
	served := make(chan error, 1)
	go func() { served <- s.ServeLoopback(l, token) }()
	transport := &http.Transport{}
	defer func() {
		transport.CloseIdleConnections()
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	own := l.Addr().String()
	_, port, err := net.SplitHostPort(own)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, host, origin, site, auth string
		status                                 int
	}{
		{"good", "GET", own, "", "", "Bearer " + token, 200},
		{"good by name", "GET", "localhost:" + port, "", "", "Bearer " + token, 200},
		{"good IPv6 host", "GET", "[::1]:" + port, "", "", "Bearer " + token, 200},
		{"own page", "GET", own, "http://" + own, "same-origin", "Bearer " + token, 200},
		{"no token", "GET", own, "", "", "", 401},
		{"wrong token", "GET", own, "", "", "Bearer " + token + "x", 401},
		{"prefix of the token", "GET", own, "", "", "Bearer " + token[:21], 401},
		{"other scheme", "GET", own, "", "", "Basic " + token, 401},
		{"rebound host", "GET", "evil.example:" + port, "", "", "Bearer " + token, 403},
		{"rebound host, no token", "GET", "evil.example:" + port, "", "", "", 403},
		{"host without port", "GET", "127.0.0.1", "", "", "Bearer " + token, 403},
		{"other port", "GET", "127.0.0.1:1", "", "", "Bearer " + token, 403},
		{"hostile origin", "GET", own, "https://evil.example", "", "Bearer " + token, 403},
		{"hostile origin, write", "POST", own, "https://evil.example", "", "Bearer " + token, 403},
		{"null origin", "POST", own, "null", "", "Bearer " + token, 403},
		{"another local page", "POST", own, "http://127.0.0.1:1", "", "Bearer " + token, 403},
		{"cross-site fetch", "POST", own, "", "cross-site", "Bearer " + token, 403},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+own+"/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		for name, value := range map[string]string{"Origin": c.origin, "Sec-Fetch-Site": c.site, "Authorization": c.auth} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		resp, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s: %s %s, want %d", c.name, resp.Status, body, c.status)
		}
		if c.status != 200 && !strings.Contains(string(body), `"code":"not_allowed"`) {
			t.Errorf("%s: %s", c.name, body)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: other pages are let in", c.name)
		}
	}
}

func newFakeMember() *Fake { return &Fake{Members: []Membership{{Domain: "acme"}}} }

func TestLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "localhost:0", "[::]:0", "x"} {
		if l, err := ListenLoopback(address); err == nil {
			l.Close()
			t.Errorf("listens at %q", address)
		}
	}
	s := New(Options{Backend: newFakeMember()})
	defer s.Close()
	all, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	if s.ServeLoopback(all, strings.Repeat("t", 40)) == nil {
		t.Error("serves on all addresses")
	}
	l, err := ListenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ServeLoopback(l, "short"); !errors.Is(err, ErrToken) {
		t.Errorf("a short token: %v", err)
	}
}

func TestLoadToken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.token")
	made, err := LoadToken(path, bytes.NewReader(make([]byte, 32)))
	if err != nil || len(made) != 43 {
		t.Fatalf("%q, %v", made, err)
	}
	if again, err := LoadToken(path, nil); err != nil || again != made {
		t.Errorf("read back: %q, %v", again, err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadToken(path, nil); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a file that others may read: %v", err)
		}
	}
	for _, content := range []string{"", "short", strings.Repeat("t", maxToken+1)} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadToken(path, nil); !errors.Is(err, ErrToken) {
			t.Errorf("%d bytes: %v", len(content), err)
		}
	}
	if _, err := LoadToken(filepath.Join(t.TempDir(), "t"), bytes.NewReader(nil)); err == nil {
		t.Error("a token without randomness")
	}
}

func FuzzRequests(f *testing.F) {
	for _, path := range []string{"/v1/tunnels", "/v1/join", "/v1/leave"} {
		f.Add("POST", path, []byte(`{"device":"printer@acme","port":"631","route":"lan","local":"127.0.0.1:1"}`))
		f.Add("POST", path, []byte(`{"token":"token-for-x","name":"n"}`))
		f.Add("POST", path, []byte(`{"domain":"acme"}`))
	}
	f.Add("GET", "/v1/devices?domain=acme&refresh=1", []byte{})
	f.Add("DELETE", "/v1/tunnels/t1", []byte{})
	known := []Device{{ID: "01", Name: "printer", Domain: "acme", Ports: []string{"631"}}}
	f.Fuzz(func(t *testing.T, method, target string, body []byte) {
		r, err := http.NewRequest(method, "http://culvert", bytes.NewReader(body))
		if err != nil {
			return
		}
		path, query, _ := strings.Cut(target, "?")
		if path == "/v1/events" {
			return // goes on until somebody hangs up
		}
		r.URL.Path, r.URL.RawQuery = path, query
		r.Header.Set("Content-Type", "application/json")
		fake := newFakeMember()
		fake.Known = known
		s := New(Options{Backend: fake})
		defer s.Close()
		w := &recorder{header: http.Header{}}
		s.handler().ServeHTTP(w, r)
		switch {
		case w.status >= 500:
			t.Errorf("%s %q %q: %d %s", method, target, body, w.status, w.body.Bytes())
		case w.status >= 400 && !json.Valid(w.body.Bytes()):
			t.Errorf("%s %q %q: not JSON: %s", method, target, body, w.body.Bytes())
		}
	})
}

// recorder is a ResponseWriter that keeps what is written.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header { return r.header }

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	return r.body.Write(p)
}
