package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/operator"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var admin = operator.Actor{Name: "test"}

// served is an operator that serves on real listeners.
type served struct {
	op   *operator.Operator
	addr string
	dir  string
	root protocol.Hash
	http *http.Client
}

// patience is for how long an answer is waited for, on however slow a machine.
const patience = 2 * time.Minute

// another is the same with a client of its own, which has a connection of its own.
func (s served) another(t *testing.T) *served {
	tr := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, VerifyConnection: enrol.VerifyServer(s.root, "127.0.0.1", time.Now)}}
	t.Cleanup(tr.CloseIdleConnections)
	s.http = &http.Client{Transport: tr, Timeout: patience}
	return &s
}

func serve(t *testing.T) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{addr: l.Addr().String(), dir: filepath.Join(t.TempDir(), "op")}
	sum, err := operator.Init(t.Context(), s.dir, operator.InitOptions{Advertise: s.addr})
	if err != nil {
		t.Fatal(err)
	}
	if s.op, err = operator.Open(t.Context(), s.dir, operator.Options{}); err != nil {
		t.Fatal(err)
	}
	local, err := ListenAdmin(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, Config{Operator: s.op, HTTPS: l, Admin: local}) }()
	root, err := hex.DecodeString(sum.Root)
	if err != nil {
		t.Fatal(err)
	}
	s.root = protocol.Hash(root)
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := s.op.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.another(t)
}

type answerBody struct {
	Error problem
	Items []json.RawMessage
	Next  string
	Token string
	ID    string
	Key   string
}

func (s *served) do(t *testing.T, method, path, key string, body any) (int, answerBody) {
	t.Helper()
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	default:
		j, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(j)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.addr+path, r)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a answerBody
	if res.Header.Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(b, &a); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, b)
		}
	}
	return res.StatusCode, a
}

func (s *served) key(t *testing.T, domain string) string {
	t.Helper()
	k, err := s.op.CreateAPIKey(t.Context(), admin, domain)
	if err != nil {
		t.Fatal(err)
	}
	return k.Key
}

func pair(t *testing.T) *key.Pair {
	t.Helper()
	p, err := key.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestEnrolOverHTTPS(t *testing.T) {
	s := serve(t)
	k := s.key(t, "")
	if code, _ := s.do(t, "POST", "/admin/v1/domains", k, map[string]string{"name": "acme"}); code != 200 {
		t.Fatal(code)
	}
	code, tok := s.do(t, "POST", "/admin/v1/tokens", k, operator.TokenSpec{Domain: "acme", Groups: []string{"staff"}})
	token, err := enrol.ParseToken(tok.Token)
	if code != 200 || err != nil || token.Address != s.addr {
		t.Fatal(code, err, token)
	}
	// Each has its connection before: a hundred handshakes at once may take a slow machine longer than the server waits for one.
	var clients []*served
	for range 100 {
		c := s.another(t)
		if code, a := c.do(t, "GET", "/v1/bundle?since=x", "", nil); code != 400 {
			t.Fatal(code, a)
		}
		clients = append(clients, c)
	}
	var done, used atomic.Int64
	var wg sync.WaitGroup
	for _, c := range clients {
		req := enrol.NewEnrollRequest(token, pair(t), "desk")
		wg.Go(func() {
			switch code, a := c.do(t, "POST", "/v1/enroll", "", req); {
			case code == 200:
				done.Add(1)
			case code == 403 && a.Error.Code == "token_used":
				used.Add(1)
			default:
				t.Error(code, a.Error)
			}
		})
	}
	wg.Wait()
	if done.Load() != 1 || used.Load() != 99 {
		t.Errorf("%d enrolled, %d refused", done.Load(), used.Load())
	}
	if code, a := s.do(t, "POST", "/v1/renew", "", enrol.NewRenewRequest(token.Root, protocol.NewID(1, protocol.Hash{1}), pair(t).Signing, time.Now())); code != 403 || a.Error.Code != "unknown_node" {
		t.Error(code, a)
	}
}

func TestAdminWantsAKey(t *testing.T) {
	s := serve(t)
	good := s.key(t, "")
	for _, k := range []string{"", "x", "culvert-api-1-", operator.APIKeyPrefix + strings.Repeat("A", 43), good[:len(good)-1], good + "A"} {
		for _, r := range adminRoutes(s.op) {
			if code, a := s.do(t, r.method, strings.NewReplacer("{", "", "}", "").Replace(r.path), k, nil); code != 401 {
				t.Errorf("%s %s with %q: %d %v", r.method, r.path, k, code, a.Error)
			}
		}
	}
	if code, _ := s.do(t, "GET", "/admin/v1/domains", good, nil); code != 200 {
		t.Error(code)
	}
	_, list := s.do(t, "GET", "/admin/v1/apikeys", good, nil)
	if len(list.Items) != 1 || bytes.Contains(list.Items[0], []byte(good)) {
		t.Errorf("keys %s", list.Items)
	}
	var view operator.APIKeyView
	if err := json.Unmarshal(list.Items[0], &view); err != nil {
		t.Fatal(err)
	}
	if code, _ := s.do(t, "DELETE", "/admin/v1/apikeys/"+view.ID, good, nil); code != 200 {
		t.Error(code)
	}
	if code, _ := s.do(t, "GET", "/admin/v1/domains", good, nil); code != 401 {
		t.Errorf("a deleted key: %d", code)
	}
}

func TestScopedKey(t *testing.T) {
	s := serve(t)
	all := s.key(t, "")
	for _, d := range []string{"acme", "other"} {
		s.do(t, "POST", "/admin/v1/domains", all, map[string]string{"name": d})
	}
	scoped := s.key(t, "acme")
	loc := strings.Repeat("ab", 32)
	device := func(name, domain, mac string) operator.DeviceSpec {
		return operator.DeviceSpec{Name: name, Domain: domain, MAC: mac, Ports: []string{"631"}, Locations: []string{loc}}
	}
	if code, a := s.do(t, "POST", "/admin/v1/devices", all, device("theirs", "other", "02:00:00:00:00:01")); code != 200 {
		t.Fatal(a.Error)
	}
	if code, a := s.do(t, "POST", "/admin/v1/devices", scoped, device("ours", "", "02:00:00:00:00:02")); code != 200 {
		t.Fatal(a.Error)
	}
	for _, c := range []struct {
		method, path string
		body         any
		want         int
	}{
		{"GET", "/admin/v1/devices/theirs@other", nil, 404},
		{"DELETE", "/admin/v1/devices/theirs@other", nil, 404},
		{"PATCH", "/admin/v1/devices/theirs@other", map[string]any{"ports": []string{"1"}}, 404},
		{"POST", "/admin/v1/devices", device("x", "other", "02:00:00:00:00:03"), 404},
		{"POST", "/admin/v1/devices:bulk", map[string]any{"devices": []operator.DeviceSpec{device("x", "other", "02:00:00:00:00:03")}}, 400},
		{"GET", "/admin/v1/devices?domain=other", nil, 404},
		{"GET", "/admin/v1/nodes?domain=other", nil, 404},
		{"GET", "/admin/v1/audit?domain=other", nil, 404},
		{"POST", "/admin/v1/tokens", operator.TokenSpec{Domain: "other"}, 404},
		{"POST", "/admin/v1/domains", map[string]string{"name": "third"}, 403},
		{"PATCH", "/admin/v1/domains/acme", map[string]bool{"banned": true}, 403},
		{"GET", "/admin/v1/apikeys", nil, 403},
		{"POST", "/admin/v1/apikeys", map[string]string{}, 403},
		{"PUT", "/admin/v1/policy", map[string]string{"policy": "own"}, 403},
		{"POST", "/admin/v1/devices:push", map[string]string{"domain": "other"}, 404},
		{"POST", "/admin/v1/devices:push", map[string]string{}, 200},
	} {
		if code, a := s.do(t, c.method, c.path, scoped, c.body); code != c.want {
			t.Errorf("%s %s: %d %+v", c.method, c.path, code, a.Error)
		}
	}
	_, list := s.do(t, "GET", "/admin/v1/devices", scoped, nil)
	if len(list.Items) != 1 {
		t.Errorf("sees %s", list.Items)
	}
}

func TestBulkSaysWhichRows(t *testing.T) {
	s := serve(t)
	k := s.key(t, "")
	s.do(t, "POST", "/admin/v1/domains", k, map[string]string{"name": "acme"})
	rows := []map[string]any{
		{"name": "a", "domain": "acme", "mac": "02:00:00:00:00:01", "ports": []string{"1"}, "locations": []string{strings.Repeat("ab", 32)}},
		{"name": "b", "domain": "acme", "address": "127.0.0.1", "ports": []string{"1"}, "locations": []string{strings.Repeat("ab", 32)}},
	}
	code, a := s.do(t, "POST", "/admin/v1/devices:bulk", k, map[string]any{"devices": rows})
	if code != 400 || a.Error.Code != "invalid_rows" || len(a.Error.Rows) != 1 || a.Error.Rows[0].Row != 2 || !strings.Contains(a.Error.Rows[0].Message, "loopback") {
		t.Errorf("%d %+v", code, a.Error)
	}
	if _, list := s.do(t, "GET", "/admin/v1/devices", k, nil); len(list.Items) != 0 {
		t.Errorf("%s", list.Items)
	}
	for i := range 3 {
		rows[0]["name"], rows[0]["mac"] = fmt.Sprint("p", i), fmt.Sprintf("02:00:00:00:00:%02x", i)
		if code, a := s.do(t, "POST", "/admin/v1/devices:bulk", k, map[string]any{"devices": rows[:1]}); code != 200 || len(a.Items) != 1 {
			t.Fatalf("%d %+v", code, a)
		}
	}
	_, first := s.do(t, "GET", "/admin/v1/devices?limit=2", k, nil)
	_, rest := s.do(t, "GET", "/admin/v1/devices?limit=2&after="+first.Next, k, nil)
	if len(first.Items) != 2 || len(rest.Items) != 1 || rest.Next != "" {
		t.Errorf("pages of %d and %d", len(first.Items), len(rest.Items))
	}
}

func TestHostileBodies(t *testing.T) {
	s := serve(t)
	k := s.key(t, "")
	for _, body := range []string{"", "null x", "{", "[]", `{"name":`, `{"name":"a"}{"name":"b"}`, `{"name":"a","extra":1}`, `{"name":{}}`, `"a"`,
		strings.Repeat("[", 100_000), `{"name":"` + strings.Repeat("a", maxBody) + `"}`, "\xff\xfe", `{"name":"\u0000"}`} {
		if code, a := s.do(t, "POST", "/admin/v1/domains", k, body); code != 400 {
			t.Errorf("%.40q: %d %v", body, code, a.Error)
		}
		if code, a := s.do(t, "POST", "/v1/enroll", "", body); code != 400 {
			t.Errorf("enroll %.40q: %d %v", body, code, a.Error)
		}
		if code, a := s.do(t, "POST", "/v1/renew", "", body); code != 400 && code != 403 {
			t.Errorf("renew %.40q: %d %v", body, code, a.Error)
		}
	}
	for _, path := range []string{"/", "/admin", "/admin/v1", "/admin/v1/x", "/v1/enroll/x", "/.git/config", "/admin/v1/devices?after=x", "/admin/v1/devices?limit=0", "/admin/v1/audit?after=-1"} {
		if code, _ := s.do(t, "GET", path, k, nil); code != 404 && code != 400 {
			t.Errorf("%s: %d", path, code)
		}
	}
}
