//go:build !windows

package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"culvert/node/localapi/ipc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newFake is an agent in two domains with a printer of the same name in both.
func newFake() *Fake {
	return &Fake{
		Members: []Membership{{Domain: "acme", State: "active"}, {Domain: "umbrella", State: "active"}},
		Places:  []Location{{ID: "aa", Domain: "acme", Interface: "eth0", Prefix: "192.0.2.0/24", Gateway: "192.0.2.1"}},
		Known: []Device{
			{ID: "01", Name: "printer", Domain: "acme", Ports: []string{"631", "161/udp"}},
			{ID: "02", Name: "printer", Domain: "umbrella", Ports: []string{"9100"}},
			{ID: "03", Name: "camera", Domain: "acme"},
		},
		Check:  Netcheck{Kind: "port_restricted", Advice: []string{"forward a port"}},
		Events: NewEvents(DefaultQueue, DefaultListeners),
		Local:  "127.0.0.1:40000",
	}
}

// start serves the API on a socket and returns a client whose requests go there.
func start(t *testing.T, o Options) (*Server, *http.Client) {
	t.Helper()
	address := ipc.Address(t.TempDir())
	l, err := ipc.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	s := New(o)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return ipc.Dial(ctx, address) }}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(address); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	return s, &http.Client{Transport: transport}
}

// step is one line of a script: a request and what must come back.
type step struct {
	method, path, body string
	status             int
	want               string // part of the body
}

func (st step) run(t *testing.T, c *http.Client) {
	t.Helper()
	var body io.Reader
	if st.body != "" {
		body = strings.NewReader(st.body)
	}
	r, err := http.NewRequestWithContext(t.Context(), st.method, "http://culvert"+st.path, body)
	if err != nil {
		t.Fatal(err)
	}
	if st.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Errorf("%s %s: %v", st.method, st.path, err)
		return
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != st.status || !strings.Contains(string(got), st.want) {
		t.Errorf("%s %s %.100s: %d %s (%v), want %d %s", st.method, st.path, st.body, resp.StatusCode, got, err, st.status, st.want)
	}
	if resp.StatusCode != http.StatusNoContent && !json.Valid(got) {
		t.Errorf("%s %s: not JSON: %s", st.method, st.path, got)
	}
}

func TestScript(t *testing.T) {
	_, c := start(t, Options{Backend: newFake(), Version: "1.2.3", Mounts: map[string]http.Handler{
		"GET /v1/metrics": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `"metrics"`) }),
	}})
	me := `"caller":{"uid":"` + strconv.Itoa(os.Getuid()) + `"`
	for _, st := range []step{
		{"GET", "/v1/version", "", 200, `"version":"1.2.3","api":"v1"`},
		{"GET", "/v1/status", "", 200, `"memberships":[{"domain":"acme"`},
		{"GET", "/v1/status", "", 200, `"roles":[]`},
		{"GET", "/v1/location", "", 200, `[{"id":"aa"`},
		{"GET", "/v1/devices", "", 200, `"umbrella"`},
		{"GET", "/v1/netcheck", "", 200, `{"kind":"port_restricted","traits":[],"summary":""`},
		{"GET", "/v1/netcheck", "", 200, `"servers":[],"port_mappings":[],"routes":[],"advice":["forward a port"]}`},
		{"POST", "/v1/netcheck", "", 405, "use GET"},
		{"GET", "/v1/devices?domain=none&refresh=1", "", 200, `[]`},
		{"GET", "/v1/devices?domain=acme", "", 200, `"name":"camera","domain":"acme","ports":[],"locations":[],"groups":[]`},
		{"GET", "/v1/devices?dom=acme", "", 400, `there is no parameter`},
		{"GET", "/v1/devices?refresh=perhaps", "", 400, `"code":"bad_request"`},
		{"GET", "/v1/devices?domain=%00", "", 400, `"code":"bad_request"`},
		{"GET", "/v1/tunnels", "", 200, `[]`},
		{"POST", "/v1/tunnels", `{"device":"printer@acme","port":"631/tcp","persist":true}`, 201, me},
		{"POST", "/v1/tunnels", `{"device":"printer","domain":"acme","port":"161/udp","route":"relayed","local":"localhost:0"}`, 201, `"local":"127.0.0.1:0","route":"relayed"`},
		{"GET", "/v1/tunnels", "", 200, `"id":"t1","device":"printer","device_id":"01","domain":"acme","port":"631"`},
		{"DELETE", "/v1/tunnels/t1", "", 204, ""},
		{"DELETE", "/v1/tunnels/t1", "", 404, `"code":"not_found"`},
		{"POST", "/v1/tunnels", `{"device":"printer","port":"631"}`, 409, `"code":"ambiguous","hint":"write printer@DOMAIN"`},
		{"POST", "/v1/tunnels", `{"device":"scanner","port":"631"}`, 404, `"code":"not_found"`},
		{"POST", "/v1/tunnels", `{"device":"printer@umbrella","port":"631"}`, 403, `"code":"not_allowed"`},
		{"POST", "/v1/join", `{"token":"token-for-hooli","name":"pc-1"}`, 201, `"domain":"hooli"`},
		{"POST", "/v1/join", `{"token":"bad"}`, 403, `"code":"refused"`},
		{"POST", "/v1/leave", `{"domain":"hooli"}`, 204, ""},
		{"POST", "/v1/leave", `{"domain":"hooli"}`, 409, `"code":"not_enrolled"`},
		{"GET", "/v1/metrics", "", 200, "metrics"},
		{"POST", "/v1/metrics", "", 405, "use GET"},
		{"PUT", "/v1/tunnels", "", 405, "use GET, POST"},
		{"GET", "/v1/tunnels/t1", "", 405, "use DELETE"},
		{"GET", "/v1/nothing", "", 404, `"code":"not_found"`},
		{"GET", "/", "", 404, `"code":"not_found"`},
	} {
		st.run(t, c)
	}
}

func TestStrictBodies(t *testing.T) {
	_, c := start(t, Options{Backend: newFake()})
	for body, want := range map[string]string{
		`{"device":"printer@acme","port":"631","colour":"red"}`: "unknown field",
		`{"device":"printer@acme","port":"631"} {}`:             "more than one value",
		`{"device":"printer@acme","port":"631"}x`:               "cannot be read",
		`{"device":"printer@acme","port":631}`:                  "cannot be read",
		`{"device":"printer@acme"`:                              "cannot be read",
		`[]`:                                                    "cannot be read",
		`null`:                                                  "is not a name",
		`{"device":"printer@acme","domain":"umbrella","port":"631"}`:                        "contradict",
		`{"device":"printer@","port":"631"}`:                                                "contradict",
		`{"device":"@acme","port":"631"}`:                                                   "is not a name",
		`{"device":"a@b@c","port":"631"}`:                                                   "is not a name",
		`{"device":"pri\u0000nter","port":"631"}`:                                           "is not a name",
		`{"device":"` + strings.Repeat("d", 256) + `","port":"631"}`:                        "is not a name",
		`{"device":"printer@acme","port":"65536"}`:                                          "is not a port",
		`{"device":"printer@acme","port":"631","route":"teleport"}`:                         "there is no route",
		`{"device":"printer@acme","port":"631","local":"0.0.0.0:9100"}`:                     "not a loopback address",
		`{"device":"printer@acme","port":"631","local":"192.0.2.1:9100"}`:                   "not a loopback address",
		`{"device":"printer@acme","port":"631","local":"127.0.0.1:99999"}`:                  "not a loopback address",
		`{"device":"printer@acme","port":"631","local":"printer:1"}`:                        "not a loopback address",
		`{"device":"printer@acme","port":"631","local":"` + strings.Repeat("9", 300) + `"}`: "not a loopback address",
	} {
		step{"POST", "/v1/tunnels", body, 400, want}.run(t, c)
	}
	step{"POST", "/v1/join", `{"token":"` + strings.Repeat("t", maxBody) + `"}`, 413, "longer than"}.run(t, c)
	for _, token := range []string{"", " ", "a b", strings.Repeat("t", maxToken+1), `\u0007`} {
		step{"POST", "/v1/join", `{"token":"` + token + `"}`, 400, "the token is empty or damaged"}.run(t, c)
	}
	step{"GET", "/v1/status", `{}`, 400, "takes no body"}.run(t, c)
	step{"GET", "/v1/events", `{}`, 400, "takes no body"}.run(t, c)

	r, err := c.Post("http://culvert/v1/leave", "text/plain", strings.NewReader(`{"domain":"acme"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusUnsupportedMediaType {
		t.Errorf("a form's content type: %s", r.Status)
	}
}

func TestEveryCodeHasItsStatus(t *testing.T) {
	codes := map[Code]int{
		NotEnrolled: 409, NotFound: 404, Ambiguous: 409, Refused: 403, NotAllowed: 403, RouteFailed: 502, DeviceRefused: 502,
		DeviceTimeout: 504, BadRequest: 400, Limit: 429, Internal: 500,
	}
	fake := newFake()
	var next Code
	fake.Fail = func(context.Context, string) error { return Errorf(next, "do this", "it failed") }
	_, c := start(t, Options{Backend: fake})
	for code, status := range codes {
		next = code
		step{"GET", "/v1/status", "", status, `{"error":"it failed","code":"` + string(code) + `","hint":"do this"}`}.run(t, c)
		if !strings.Contains(string(Spec()), string(code)+" "+strconv.Itoa(status)) {
			t.Errorf("openapi.yaml does not say %s %d", code, status)
		}
	}
}

func TestFailingBackend(t *testing.T) {
	fake := newFake()
	_, c := start(t, Options{Backend: fake})
	fake.Fail = func(context.Context, string) error { return errors.New("disk full") }
	for _, st := range []step{
		{"GET", "/v1/status", "", 500, `{"error":"disk full","code":"internal"`},
		{"GET", "/v1/location", "", 500, "disk full"},
		{"GET", "/v1/devices", "", 500, "disk full"},
		{"GET", "/v1/tunnels", "", 500, "disk full"},
		{"GET", "/v1/netcheck", "", 500, "disk full"},
		{"POST", "/v1/tunnels", `{"device":"camera","port":"1"}`, 500, "disk full"},
		{"DELETE", "/v1/tunnels/x", "", 500, "disk full"},
		{"POST", "/v1/join", `{"token":"t"}`, 500, "disk full"},
		{"POST", "/v1/leave", `{}`, 500, "disk full"},
	} {
		st.run(t, c)
	}
	fake.Fail = func(context.Context, string) error { panic("a bug") }
	step{"GET", "/v1/status", "", 500, "the agent failed on this request"}.run(t, c)
	fake.Fail = nil
	step{"GET", "/v1/status", "", 200, "memberships"}.run(t, c)
}
