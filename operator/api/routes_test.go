package api

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/operator"
)

func TestAdminSocket(t *testing.T) {
	s := serve(t)
	if runtime.GOOS != "windows" {
		st, err := os.Stat(filepath.Join(s.dir, "admin.sock"))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st.Mode(), err)
		}
	}
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return DialAdmin(ctx, s.dir) }}
	defer tr.CloseIdleConnections()
	res, err := (&http.Client{Transport: tr}).Post("http://x/admin/v1/domains", "application/json", strings.NewReader(`{"name":"acme"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != 200 {
		t.Fatal(res.Status)
	}
	lines, _, err := s.op.AuditLog(t.Context(), admin, "acme", 0, 10)
	if err != nil || len(lines) != 1 || runtime.GOOS != "windows" && lines[0].Actor != fmt.Sprintf("uid %d", os.Getuid()) {
		t.Errorf("%+v, %v", lines, err)
	}
}

func TestForeignPeerOfTheSocketIsRefused(t *testing.T) {
	req, err := http.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, errForeignPeer), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := LocalActor(req); err == nil {
		t.Error("admitted")
	}
	if _, err := LocalActor(req.WithContext(t.Context())); err == nil {
		t.Error("nobody in particular is admitted")
	}
}

func TestInProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "op")
	if _, err := operator.Init(t.Context(), dir, operator.InitOptions{Advertise: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	op, err := operator.Open(t.Context(), dir, operator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	c := &http.Client{Transport: InProcess(Admin(op, As(admin)))}
	for range 3 {
		res, err := c.Get("http://x/admin/v1/domains")
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 200 || string(b) != `{"items":[]}`+"\n" {
			t.Errorf("%d %s %v", res.StatusCode, b, err)
		}
		res.Body.Close()
	}
	if res, err := c.Get("http://x/admin/v1/openapi.yaml"); err != nil || res.Header.Get("Content-Type") != "application/yaml" {
		t.Error(err)
	} else {
		res.Body.Close()
	}
}

func TestLimits(t *testing.T) {
	l, now := newLimits(), time.Unix(1000, 0)
	allowed := 0
	for range 2 * requestBurst {
		if l.allow("192.0.2.1:5", now) {
			allowed++
		}
	}
	if allowed != requestBurst {
		t.Errorf("%d allowed at once", allowed)
	}
	if !l.allow("192.0.2.2:5", now) || !l.allow("192.0.2.1:5", now.Add(time.Second)) {
		t.Error("another address, or a second later, is refused")
	}
	for i := range requestBurst + 1 { // one /64, many addresses
		ok := l.allow(fmt.Sprintf("[2001:db8::%x]:1", i), now)
		if want := i < requestBurst; ok != want {
			t.Fatalf("address %d of a /64: %v", i, ok)
		}
	}
	for i := range 2 * maxTracked {
		l.allow(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>8, i&255), now)
	}
	if len(l.buckets) > maxTracked {
		t.Errorf("%d addresses are kept", len(l.buckets))
	}
}

// TestOpenAPINamesEveryRoute holds the description equal to the routes.
func TestOpenAPINamesEveryRoute(t *testing.T) {
	var have, want []string
	for _, r := range publicRoutes(nil) {
		have = append(have, r.method+" "+r.path)
	}
	for _, r := range adminRoutes(nil) {
		have = append(have, r.method+" "+r.path)
	}
	path, inPaths := "", false
	pathLine, methodLine := regexp.MustCompile(`^  (/\S+):$`), regexp.MustCompile(`^    (get|post|put|patch|delete):$`)
	for line := range strings.Lines(string(openAPI)) {
		line = strings.TrimRight(line, "\n")
		if line != "" && line[0] != ' ' {
			inPaths = line == "paths:"
		}
		if m := pathLine.FindStringSubmatch(line); inPaths && m != nil {
			path = m[1]
		} else if m := methodLine.FindStringSubmatch(line); inPaths && m != nil {
			want = append(want, strings.ToUpper(m[1])+" "+path)
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		t.Errorf("routes\n%s\ndescribed\n%s", strings.Join(have, "\n"), strings.Join(want, "\n"))
	}
	refs := regexp.MustCompile(`#/components/(\w+)/(\w+)`)
	for _, m := range refs.FindAllStringSubmatch(string(openAPI), -1) {
		if !regexp.MustCompile(`(?m)^    ` + m[2] + `:`).MatchString(string(openAPI)) {
			t.Errorf("%s is not described", m[0])
		}
	}
}

func FuzzDeviceBody(f *testing.F) {
	f.Add([]byte(`{"name":"a","domain":"acme","mac":"02:00:00:00:00:01","ports":["631","161/udp"],"locations":["00"]}`))
	f.Add([]byte(`{"devices":[{"ports":null,"address":"::ffff:127.0.0.1"}]}`))
	dir := filepath.Join(f.TempDir(), "op")
	if _, err := operator.Init(f.Context(), dir, operator.InitOptions{Advertise: "127.0.0.1:1"}); err != nil {
		f.Fatal(err)
	}
	op, err := operator.Open(f.Context(), dir, operator.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { op.Close() })
	if _, err := op.AddDomain(f.Context(), admin, "acme"); err != nil {
		f.Fatal(err)
	}
	c := &http.Client{Transport: InProcess(Admin(op, As(admin)))}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, path := range []string{"/admin/v1/devices", "/admin/v1/devices:bulk"} {
			res, err := c.Post("http://x"+path, "application/json", bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode >= 500 && res.StatusCode != 503 {
				t.Fatalf("%s: %d", path, res.StatusCode)
			}
		}
	})
}
