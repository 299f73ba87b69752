package nodetest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
)

// device is something on this machine that says its name to whoever connects, and then sends back what it gets.
type device struct {
	name string
	port uint16
	met  atomic.Int64 // connections
}

func newDevice(t testing.TB, name string) *device {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp4", "127.0.0.1:0"))
	d := &device{name: name, port: l.Addr().(*net.TCPAddr).AddrPort().Port()}
	var conns sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			d.met.Add(1)
			mu.Lock()
			open[c] = true
			mu.Unlock()
			conns.Go(func() {
				fmt.Fprintln(c, name)
				io.Copy(c, c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		conns.Wait()
	})
	return d
}

func (d *device) portText() string { return strconv.Itoa(int(d.port)) }

// consent lets an agent serve the device on its own machine.
func (d *device) consent() config.Consent {
	return config.Consent{Device: d.name, Ports: []config.Port{{Number: d.port}}}
}

func consents(l ...*device) func(*config.Config) {
	return func(c *config.Config) {
		for _, d := range l {
			c.Consent = append(c.Consent, d.consent())
		}
	}
}

// talk connects to a tunnel's local end and says something through it; the connection is left open.
func talk(t testing.TB, local, name string) net.Conn {
	t.Helper()
	c := must[net.Conn](t)(net.DialTimeout("tcp", local, patience))
	t.Cleanup(func() { c.Close() })
	noError(t, c.SetDeadline(time.Now().Add(patience)))
	r := bufio.NewReader(c)
	if s, err := r.ReadString('\n'); err != nil || s != name+"\n" {
		t.Fatalf("device said %q, %v; not %q", s, err, name)
	}
	echo(t, c, r)
	noError(t, c.SetDeadline(time.Time{}))
	return c
}

func echo(t testing.TB, c net.Conn, r io.Reader) {
	t.Helper()
	noError(t, c.SetDeadline(time.Now().Add(patience)))
	const text = "is there anybody?"
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(r, b); err != nil || string(b) != text {
		t.Fatalf("came back: %q, %v", b, err)
	}
}

// open opens a tunnel.
func (a *agent) open(r client.OpenRequest) (client.Tunnel, error) {
	return a.api.Open(a.t.Context(), r)
}

// answered is open, again where on a busy machine somebody did not answer in time: what comes out is the tunnel, or why not.
func (a *agent) answered(r client.OpenRequest) (tun client.Tunnel, err error) {
	a.t.Helper()
	for end := time.Now().Add(patience); ; {
		tun, err = a.open(r)
		late := errors.Is(err, client.ErrRouteFailed) || errors.Is(err, client.ErrDeviceTimeout)
		if !late || time.Now().After(end) {
			return tun, err
		}
		a.t.Logf("%s opens %s again: %v", a.name, r.Device, err)
	}
}

// opens opens a tunnel that can be.
func (a *agent) opens(r client.OpenRequest) client.Tunnel {
	a.t.Helper()
	return must[client.Tunnel](a.t)(a.answered(r))
}

// devices lists devices once the mesh answers.
func (a *agent) devices(q client.DeviceQuery) (l []client.Device) {
	a.t.Helper()
	eventually(a.t, a.name+" lists devices", func() bool {
		var err error
		l, err = a.api.Devices(a.t.Context(), q)
		if err != nil && !errors.Is(err, client.ErrRouteFailed) {
			a.t.Fatal(err)
		}
		return err == nil
	})
	return l
}
