//go:build !windows

package localapi

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/node/localapi/ipc"
)

func TestCloseWaitsForRequests(t *testing.T) {
	fake := newFake()
	entered, leave := make(chan struct{}), make(chan struct{})
	fake.Fail = func(context.Context, string) error {
		close(entered)
		<-leave
		return nil
	}
	s, c := start(t, Options{Backend: fake})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { step{"GET", "/v1/status", "", 200, "memberships"}.run(t, c) })
	<-entered
	closed := make(chan struct{})
	wg.Go(func() { s.Close(); close(closed) })
	<-s.streams.Done() // Close has begun
	select {
	case <-closed:
		t.Error("Close did not wait")
	default:
	}
	close(leave)
	<-closed
}

func TestCloseCancelsAfterGrace(t *testing.T) {
	fake := newFake()
	entered := make(chan struct{})
	fake.Fail = func(ctx context.Context, _ string) error {
		close(entered)
		<-ctx.Done()
		return ctx.Err()
	}
	s, c := start(t, Options{Backend: fake, Grace: time.Millisecond})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if r, err := c.Get("http://culvert/v1/status"); err == nil {
			r.Body.Close()
		}
	})
	<-entered
	s.Close()
	s.Close()
}

func TestServeAfterClose(t *testing.T) {
	s := New(Options{Backend: newFake()})
	s.Close()
	l, err := ipc.Listen(ipc.Address(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != nil {
		t.Error(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener is still open")
	}
}

func TestServeReportsABrokenListener(t *testing.T) {
	s := New(Options{Backend: newFake()})
	defer s.Close()
	l, err := ipc.Listen(ipc.Address(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := s.Serve(l); err == nil {
		t.Error("no error")
	}
}

func TestEventStream(t *testing.T) {
	fake := newFake()
	fake.Events = NewEvents(DefaultQueue, 1)
	s, c := start(t, Options{Backend: fake, Events: fake.Events})
	r, err := c.Get("http://culvert/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if kind := r.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("type %q", kind)
	}
	step{"GET", "/v1/events", "", 429, `"code":"limit"`}.run(t, c)
	step{"POST", "/v1/tunnels", `{"device":"camera@acme","port":"1"}`, 403, ""}.run(t, c)
	step{"POST", "/v1/tunnels", `{"device":"printer@acme","port":"631"}`, 201, ""}.run(t, c)
	lines := bufio.NewScanner(r.Body)
	for _, want := range []string{": listening", "", "id: 1", "event: tunnel_up", `data: {"sequence":1,"type":"tunnel_up"`, ""} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Fatalf("got %q (%v), want %q", lines.Text(), lines.Err(), want)
		}
	}
	go s.Close() // the cleanup's Close waits for this one
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream does not end cleanly: %v", err)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limitConnections(inner, 1)
	defer l.Close()
	for range 2 {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	first, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan net.Conn, 1)
	go func() {
		conn, _ := l.Accept()
		second <- conn
	}()
	select {
	case <-second:
		t.Fatal("two at a time")
	default:
	}
	first.Close()
	first.Close() // frees one place only
	(<-second).Close()

	if held, err := net.Dial("tcp", inner.Addr().String()); err == nil {
		defer held.Close()
	}
	third, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	waiting := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		waiting <- err
	}()
	l.Close()
	if err := <-waiting; err == nil {
		t.Error("Accept outlives Close")
	}
}

// TestSlowHeaders shows that a caller who says nothing is hung up on, and that others are served meanwhile.
func TestSlowHeaders(t *testing.T) {
	address := ipc.Address(t.TempDir())
	l, err := ipc.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Options{Backend: newFake(), Grace: time.Millisecond})
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	silent, err := ipc.Dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := silent.Write([]byte("GET /v1/status HTTP/1.1\r\n")); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return ipc.Dial(ctx, address) }}
	defer transport.CloseIdleConnections()
	step{"GET", "/v1/status", "", 200, "memberships"}.run(t, &http.Client{Transport: transport})
	s.Close() // is not held up by the silent one
	if err := <-served; err != nil {
		t.Error(err)
	}
}
