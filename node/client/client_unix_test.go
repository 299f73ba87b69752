//go:build !windows

package client

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"culvert/node/localapi"
	"culvert/node/localapi/ipc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newFake() *localapi.Fake {
	return &localapi.Fake{
		Members: []localapi.Membership{{Domain: "acme", State: "active"}, {Domain: "umbrella", State: "active"}},
		Places:  []localapi.Location{{ID: "aa", Domain: "acme", Interface: "eth0"}},
		Carried: []localapi.Served{{End: "tunnel", UserNode: "03", DeviceID: "01", Domain: "acme", Port: "631", Route: "lan"}},
		Known: []localapi.Device{
			{ID: "01", Name: "printer", Domain: "acme", Ports: []string{"631", "161/udp"}},
			{ID: "02", Name: "printer", Domain: "umbrella", Ports: []string{"9100"}},
		},
		Events: localapi.NewEvents(localapi.DefaultQueue, localapi.DefaultListeners),
		Local:  "127.0.0.1:40000",
	}
}

// agent serves a fake in a data directory until the test ends or stop is called.
func agent(t *testing.T, dir string, fake *localapi.Fake) (stop func()) {
	t.Helper()
	l, err := ipc.Listen(ipc.Address(dir))
	if err != nil {
		t.Fatal(err)
	}
	s := localapi.New(localapi.Options{Backend: fake, Events: fake.Events, Version: "1.2.3"})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	stop = sync.OnceFunc(func() {
		s.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// connect makes a client that is closed before its agent stops.
func connect(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestEverything(t *testing.T) {
	dir := t.TempDir()
	agent(t, dir, newFake())
	c, ctx := connect(t, dir), t.Context()

	if v, err := c.Version(ctx); err != nil || v.Version != "1.2.3" || v.API != "v1" {
		t.Errorf("version: %+v, %v", v, err)
	}
	if s, err := c.Status(ctx); err != nil || len(s.Memberships) != 2 {
		t.Errorf("status: %+v, %v", s, err)
	}
	if l, err := c.Locations(ctx); err != nil || len(l) != 1 || l[0].Interface != "eth0" {
		t.Errorf("locations: %+v, %v", l, err)
	}
	if d, err := c.Devices(ctx, DeviceQuery{}); err != nil || len(d) != 2 {
		t.Errorf("devices: %+v, %v", d, err)
	}
	if d, err := c.Devices(ctx, DeviceQuery{Domain: "umbrella", Refresh: true}); err != nil || len(d) != 1 || d[0].ID != "02" {
		t.Errorf("devices of a domain: %+v, %v", d, err)
	}
	opened, err := c.Open(ctx, OpenRequest{Device: "printer@acme", Port: "161/udp", Route: "relayed", Persist: true})
	if err != nil || opened.DeviceID != "01" || opened.Route != "relayed" || !opened.Persist || opened.Caller.PID != os.Getpid() {
		t.Errorf("open: %+v, %v", opened, err)
	}
	if list, err := c.Tunnels(ctx); err != nil || len(list) != 1 || !reflect.DeepEqual(list[0], opened) {
		t.Errorf("tunnels: %+v, %v", list, err)
	}
	if l, err := c.Served(ctx); err != nil || len(l) != 1 || l[0].UserNode != "03" {
		t.Errorf("served: %+v, %v", l, err)
	}
	if err := c.CloseTunnel(ctx, opened.ID); err != nil {
		t.Errorf("close: %v", err)
	}
	if m, err := c.Join(ctx, "token-for-hooli", "pc"); err != nil || m.Domain != "hooli" || m.Name != "pc" {
		t.Errorf("join: %+v, %v", m, err)
	}
	if err := c.Leave(ctx, "hooli"); err != nil {
		t.Errorf("leave: %v", err)
	}
}

func TestErrorsAreTyped(t *testing.T) {
	dir, fake := t.TempDir(), newFake()
	agent(t, dir, fake)
	c, ctx := connect(t, dir), t.Context()
	open := func(device, port string) error {
		_, err := c.Open(ctx, OpenRequest{Device: device, Port: port})
		return err
	}
	_, refused := c.Join(ctx, "bad", "")
	for _, e := range []struct {
		got, want error
		text      string
	}{
		{open("printer", "631"), ErrAmbiguous, "write printer@DOMAIN"},
		{open("scanner", "631"), ErrNotFound, `there is no device "scanner": see culvert devices`},
		{open("printer@umbrella", "631"), ErrNotAllowed, "not registered"},
		{open("printer", "http"), ErrBadRequest, "is not a port"},
		{c.CloseTunnel(ctx, "../status"), ErrNotFound, "there is no"},
		{c.CloseTunnel(ctx, "a@b"), ErrBadRequest, "not a tunnel's ID"},
		{c.Leave(ctx, "hooli"), ErrNotEnrolled, "not in the domain"},
		{refused, ErrRefused, "does not take this token"},
	} {
		if !errors.Is(e.got, e.want) || !strings.Contains(e.got.Error(), e.text) {
			t.Errorf("got %v, want %v with %q", e.got, e.want, e.text)
		}
		if errors.Is(e.got, ErrInternal) {
			t.Errorf("%v is taken for another error", e.got)
		}
	}
	for code, want := range map[localapi.Code]error{
		localapi.RouteFailed: ErrRouteFailed, localapi.DeviceRefused: ErrDeviceRefused, localapi.DeviceTimeout: ErrDeviceTimeout,
		localapi.Limit: ErrLimit, localapi.Internal: ErrInternal,
	} {
		fake.Fail = func(context.Context, string) error { return localapi.Errorf(code, "", "no") }
		if _, err := c.Status(ctx); !errors.Is(err, want) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestNoDaemon(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(t.Context(), dir); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), "culvert run") {
		t.Errorf("Dial: %v", err)
	}
	c := New(ipc.Address(dir))
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), "culvert run") {
		t.Errorf("a request: %v", err)
	}
	t.Setenv("CULVERT_DATA", dir)
	if _, err := Dial(t.Context(), ""); !errors.Is(err, ErrNoDaemon) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Dial of CULVERT_DATA: %v", err)
	}
}

func TestAgentRestarts(t *testing.T) {
	dir := t.TempDir()
	stop := agent(t, dir, newFake())
	c := connect(t, dir)
	if _, err := c.Status(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	agent(t, dir, newFake())
	if _, err := c.Open(t.Context(), OpenRequest{Device: "printer@acme", Port: "631"}); err != nil {
		t.Errorf("after a restart: %v", err)
	}
}

func TestEvents(t *testing.T) {
	dir, fake := t.TempDir(), newFake()
	stop := agent(t, dir, fake)
	c := connect(t, dir)
	events, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fake.Events.Publish(localapi.Event{Type: localapi.DeviceMoved, Device: "printer", Locations: []string{"bb"}})
	if _, err := c.Open(t.Context(), OpenRequest{Device: "printer@acme", Port: "631"}); err != nil {
		t.Fatal(err)
	}
	want := []EventType{DeviceMoved, TunnelUp}
	for ev, err := range events {
		if len(want) == 0 {
			if !errors.Is(err, ErrStreamEnded) {
				t.Errorf("the end: %+v, %v", ev, err)
			}
			want = nil
			break
		}
		if err != nil || ev.Type != want[0] {
			t.Fatalf("got %+v, %v, want %s", ev, err, want[0])
		}
		if want = want[1:]; len(want) == 0 {
			if ev.Tunnel.Device != "printer" {
				t.Errorf("tunnel %+v", ev.Tunnel)
			}
			stop()
		}
	}
	if want != nil {
		t.Error("the end of the agent did not end the stream with an error")
	}
}

func TestEventsStop(t *testing.T) {
	dir, fake := t.TempDir(), newFake()
	agent(t, dir, fake)
	c := connect(t, dir)
	ctx, cancel := context.WithCancel(t.Context())
	events, err := c.Events(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for ev, err := range events {
		t.Errorf("after cancelling: %+v, %v", ev, err)
	}
	left, err := c.Events(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fake.Events.Publish(localapi.Event{Type: localapi.DeviceFound})
	for range left {
		break
	}
}

func TestDialDevice(t *testing.T) {
	device, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	go func() {
		conn, err := device.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		job, _ := io.ReadAll(conn) // until the half-close
		_, _ = conn.Write([]byte("printed " + string(job)))
	}()
	dir, fake := t.TempDir(), newFake()
	fake.Local = device.Addr().String()
	agent(t, dir, fake)
	c := connect(t, dir)
	conn, err := c.DialDevice(t.Context(), "printer@acme", "631")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("a page")); err != nil {
		t.Fatal(err)
	}
	if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(conn); err != nil || string(answer) != "printed a page" {
		t.Errorf("answer %q, %v", answer, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	if list, err := c.Tunnels(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("tunnels left: %+v, %v", list, err)
	}

	device.Close()
	if _, err := c.DialDevice(t.Context(), "printer@acme", "631"); err == nil {
		t.Error("a dead tunnel is dialled")
	}
	if list, err := c.Tunnels(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("tunnels left after a failure: %+v, %v", list, err)
	}
}

func TestDialDeviceUDP(t *testing.T) {
	device, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	dir, fake := t.TempDir(), newFake()
	fake.Local = device.LocalAddr().String()
	agent(t, dir, fake)
	conn, err := connect(t, dir).DialDevice(t.Context(), "printer@acme", "161/udp")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("get")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 16)
	n, _, err := device.ReadFrom(buf)
	if err != nil || string(buf[:n]) != "get" {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	for range 2 {
		if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}
}

func TestLoopback(t *testing.T) {
	l, err := localapi.ListenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	token := strings.Repeat("t", 40)
	s := localapi.New(localapi.Options{Backend: newFake()})
	served := make(chan error, 1)
	go func() { served <- s.ServeLoopback(l, token) }()
	good, bad := NewLoopback(l.Addr().String(), token), NewLoopback(l.Addr().String(), token+"x")
	if _, err := good.Status(t.Context()); err != nil {
		t.Errorf("with the token: %v", err)
	}
	if _, err := bad.Status(t.Context()); !errors.Is(err, ErrNotAllowed) {
		t.Errorf("with another: %v", err)
	}
	good.Close()
	bad.Close()
	s.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
