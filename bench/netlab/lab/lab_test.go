//go:build linux && netlab

package lab_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"culvert/bench/netlab/lab"
)

const patience = time.Minute

func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.New(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// town is a public host and a home behind an ordinary NAT.
type town struct {
	lab                     *lab.Lab
	public, stranger        *lab.Host
	home                    *lab.Site
	inside, second, printer *lab.Host
}

func newTown(t *testing.T) town {
	t.Helper()
	host := must[*lab.Host](t)
	l := newLab(t)
	home := must[*lab.Site](t)(l.Site(lab.SiteConfig{
		Name: "home", Kind: lab.PortRestricted,
		WAN:  netip.MustParsePrefix("45.55.0.2/24"),
		LANs: []netip.Prefix{netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("192.168.60.1/24")},
	}))
	return town{
		lab:      l,
		public:   host(l.Public("public", netip.MustParsePrefix("45.22.0.2/24"))),
		stranger: host(l.Public("stranger", netip.MustParsePrefix("45.33.0.2/24"))),
		home:     home,
		inside:   host(home.Host("inside", netip.MustParseAddr("192.168.50.10"))),
		second:   host(home.Host("second", netip.MustParseAddr("192.168.50.11"))),
		printer:  host(home.Host("printer", netip.MustParseAddr("192.168.60.20"))),
	}
}

func udp(t *testing.T, h *lab.Host, port string) net.PacketConn {
	t.Helper()
	conn := must[net.PacketConn](t)(h.ListenPacket("udp4", "0.0.0.0:"+port))
	t.Cleanup(func() { conn.Close() })
	return conn
}

func send(t *testing.T, c net.PacketConn, to netip.AddrPort, text string) {
	t.Helper()
	if _, err := c.WriteTo([]byte(text), net.UDPAddrFromAddrPort(to)); err != nil {
		t.Fatal(err)
	}
}

// receive is the next datagram and its sender.
func receive(t *testing.T, c net.PacketConn) (string, netip.AddrPort) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 1500)
	n, from, err := c.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n]), from.(*net.UDPAddr).AddrPort()
}

// A port-restricted router keeps the port, uses one mapping for everybody, and
// lets in only the very address and port that was written to.
func TestPortRestrictedNAT(t *testing.T) {
	w := newTown(t)
	in := udp(t, w.inside, "7700")
	pub, pubOther, stranger := udp(t, w.public, "7700"), udp(t, w.public, "7701"), udp(t, w.stranger, "7700")
	mapped := netip.AddrPortFrom(w.home.WAN, 7700)

	// Before anything was sent out nothing comes in, and the attempt does not
	// take the port from the mapping that follows.
	capture := must[*lab.Capture](t)(w.home.Router.Capture("wan", func(p lab.Packet) bool { return p.UDP(7700) }))
	send(t, stranger, mapped, "early")
	waitPackets(t, capture, 1)

	send(t, in, netip.AddrPortFrom(w.public.Addr(), 7700), "hello")
	if text, from := receive(t, pub); text != "hello" || from != mapped {
		t.Fatalf("public host received %q from %s, want hello from %s", text, from, mapped)
	}
	// Others may not answer: neither another host nor another port of this one.
	send(t, stranger, mapped, "stranger")
	send(t, pubOther, mapped, "other port")
	send(t, pub, mapped, "answer")
	if text, from := receive(t, in); text != "answer" || from.Addr() != w.public.Addr() {
		t.Fatalf("inside received %q from %s, want the answer first", text, from)
	}
	// Writing to the stranger uses the same mapping and lets it in.
	send(t, in, netip.AddrPortFrom(w.stranger.Addr(), 7700), "and you")
	if text, from := receive(t, stranger); text != "and you" || from != mapped {
		t.Fatalf("stranger received %q from %s, want the same mapping %s", text, from, mapped)
	}
	send(t, stranger, mapped, "welcome")
	if text, _ := receive(t, in); text != "welcome" {
		t.Fatalf("inside received %q, want what the stranger sent after it was written to", text)
	}
	if _, err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
}

func waitPackets(t *testing.T, c *lab.Capture, n int) {
	t.Helper()
	waitUntil(t, "packets are not captured", func() bool { return len(c.Packets()) >= n })
}

// waitUntil asks again until it is so; failure says what is wrong if it never is.
func waitUntil(t *testing.T, failure string, so func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-deadline:
			t.Fatalf("after %s: %s", patience, failure)
		case <-tick.C:
		}
	}
}

// A device is reached on its LAN and from the next subnet, and not from the
// internet: not at the router's address, not at its own.
func TestDeviceBehindRouter(t *testing.T) {
	w := newTown(t)
	ln := must[net.Listener](t)(w.printer.Listen("tcp4", ":9100"))
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("ready"))
			conn.Close()
		}
	}()
	for _, from := range []*lab.Host{w.inside, w.printer} {
		conn := must[net.Conn](t)(from.Dial(t.Context(), "tcp4", "192.168.60.20:9100"))
		if got, err := io.ReadAll(conn); err != nil || string(got) != "ready" {
			t.Errorf("%s read %q, %v", from.Name(), got, err)
		}
		conn.Close()
	}
	for _, to := range []string{"45.55.0.2:9100", "192.168.60.20:9100"} {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if conn, err := w.public.Dial(ctx, "tcp4", to); err == nil {
			conn.Close()
			t.Errorf("%s is reached from the internet", to)
		}
		cancel()
	}
}

// An open site's hosts stand in the internet with their own addresses.
func TestOpenSite(t *testing.T) {
	l := newLab(t)
	office := must[*lab.Site](t)(l.Site(lab.SiteConfig{
		Name: "office", Kind: lab.Open,
		WAN:  netip.MustParsePrefix("45.77.0.2/24"),
		LANs: []netip.Prefix{netip.MustParsePrefix("45.44.0.1/24")},
	}))
	desk := must[*lab.Host](t)(office.Host("desk", netip.MustParseAddr("45.44.0.10")))
	public := must[*lab.Host](t)(l.Public("public", netip.MustParsePrefix("45.22.0.2/24")))
	in, out := udp(t, desk, "7700"), udp(t, public, "7700")
	send(t, out, netip.AddrPortFrom(desk.Addr(), 7700), "unasked")
	if text, from := receive(t, in); text != "unasked" || from.Addr() != public.Addr() {
		t.Fatalf("desk received %q from %s", text, from)
	}
}

// A capture holds every byte that passed, in order, and says so.
func TestCaptureSeesEverything(t *testing.T) {
	w := newTown(t)
	ln := must[net.Listener](t)(w.public.Listen("tcp4", ":9000"))
	defer ln.Close()
	capture := must[*lab.Capture](t)(w.public.Capture("eth0", lab.Packet.TCP))
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		conn, err := w.inside.Dial(t.Context(), "tcp4", "45.22.0.2:9000")
		if err != nil {
			return
		}
		conn.Write(want)
		conn.Close()
	}()
	conn := must[net.Conn](t)(ln.Accept())
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes arrived, %v", len(got), err)
	}
	conn.Close()
	var seen int
	for _, p := range must[[]lab.Packet](t)(capture.Stop()) {
		if p.To.Port() == 9000 {
			seen += len(p.Payload)
		}
	}
	if seen < len(want) {
		t.Errorf("the capture holds %d of %d bytes", seen, len(want))
	}
}

// Closing a lab leaves no process, and what is asked of it afterwards fails.
func TestCloseLeavesNothing(t *testing.T) {
	l := must[*lab.Lab](t)(lab.New(t.Context(), t.TempDir()))
	h := must[*lab.Host](t)(l.Public("public", netip.MustParsePrefix("45.22.0.2/24")))
	p := must[*lab.Process](t)(h.Start(nil, "sh", "-c", "sleep 1000 & echo $!; echo started; wait"))
	waitLog(t, p, "started")
	child, _, _ := strings.Cut(p.Tail(1<<10), "\n")
	before := runtime.NumGoroutine()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	select {
	case <-p.Done():
	default:
		t.Fatal("the process has not ended")
	}
	awaitEnd(t, child)
	waitUntil(t, "its goroutines are left", func() bool { return runtime.NumGoroutine() < before })
	if _, err := h.Start(nil, "true"); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("start after close: %v", err)
	}
	if err := h.Do(func() error { return nil }); !errors.Is(err, lab.ErrClosed) {
		t.Errorf("do after close: %v", err)
	}
}

// awaitEnd waits for an orphan that was killed; who adopted it may not have
// reaped it yet.
func awaitEnd(t *testing.T, pid string) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		state, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || bytes.Contains(state, []byte(") Z ")) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("process %s still runs: %s", pid, state)
		case <-tick.C:
		}
	}
}

// A cancelled context, as Ctrl-C makes it, ends processes and those who wait.
func TestCancelEndsProcesses(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := must[*lab.Lab](t)(lab.New(ctx, t.TempDir()))
	defer l.Close()
	h := must[*lab.Host](t)(l.Public("public", netip.MustParsePrefix("45.22.0.2/24")))
	p := must[*lab.Process](t)(h.Start(nil, "sleep", "1000"))
	cancel()
	select {
	case <-p.Done():
	case <-time.After(patience):
		t.Fatal("the process outlives its context")
	}
	if _, err := h.Run(ctx, nil, "sleep", "1000"); !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v", err)
	}
}

// A command's outputs and code come back; its process stands in the host.
func TestRunAndStart(t *testing.T) {
	l := newLab(t)
	h := must[*lab.Host](t)(l.Public("public", netip.MustParsePrefix("45.22.0.2/24")))
	res := must[lab.Result](t)(h.Run(t.Context(), []string{"WORD=out"}, "sh", "-c", `ip -br -4 addr show eth0; echo $WORD; echo err >&2; exit 3`))
	if res.Code != 3 || !bytes.Contains(res.Stdout, []byte("45.22.0.2/24")) || !bytes.HasSuffix(res.Stdout, []byte("out\n")) || string(res.Stderr) != "err\n" {
		t.Errorf("code %d, stdout %q, stderr %q", res.Code, res.Stdout, res.Stderr)
	}
	p := must[*lab.Process](t)(h.Start(nil, "sh", "-c", `trap 'echo asked; exit 0' TERM; echo waiting; while :; do sleep 0.05; done`))
	waitLog(t, p, "waiting")
	if err := p.Stop(patience); err != nil {
		t.Error(err)
	}
	if got := p.Tail(6); got != "asked\n" {
		t.Errorf("tail %q", got)
	}
	if _, err := h.Run(t.Context(), nil, "no-such-program"); err == nil {
		t.Error("a program that does not exist runs")
	}
}

func waitLog(t *testing.T, p *lab.Process, text string) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !bytes.Contains([]byte(p.Tail(1<<16)), []byte(text)) {
		select {
		case <-deadline:
			t.Fatalf("%s does not say %q: %s", p, text, p.Tail(1<<16))
		case <-tick.C:
		}
	}
}

// The machine's own network is not touched.
func TestHostNetworkUntouched(t *testing.T) {
	before := must[[]net.Interface](t)(net.Interfaces())
	newTown(t)
	after := must[[]net.Interface](t)(net.Interfaces())
	if len(before) != len(after) {
		t.Errorf("%d interfaces before, %d with a lab: %v", len(before), len(after), after)
	}
}
