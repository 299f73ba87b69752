package nodetest

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
)

// Two nodes meet by UDP through a super-node, and the tunnel runs over QUIC on the port of their messages.
func TestPunched(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	user := m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	m.device(at, d)
	user.sees(d.name)
	m.announced(super, at)

	began := time.Now()
	tun := user.opens(client.OpenRequest{Device: d.name, Port: d.portText(), Route: "punched"})
	t.Logf("punched in %s", time.Since(began))
	if tun.Route != "punched" {
		t.Fatalf("route %s was taken", tun.Route)
	}
	talk(t, tun.Local, d.name).Close()
	// A job of some size, both ways, with a stream of its own. A busy machine may let a link end, and the job with it.
	data := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	eventually(t, "the job is done", func() bool { return job(t, tun.Local, d.name, data, user, at) })
	if n := count(at.node, "tunnels: bulk taken"); n == 0 {
		t.Error("no flow had a stream of its own")
	}
}

// job has a device send data back, and reports whether all came, by the meeting of these two that there was before.
func job(t *testing.T, local, name string, data []byte, ends ...*agent) bool {
	t.Helper()
	var met []uint64
	for _, a := range ends {
		n := count(a.node, "punch: met")
		if met = append(met, n); n == 0 {
			t.Fatalf("%s: no meeting: %v", a.name, a.node.Stats())
		}
	}
	c := must[net.Conn](t)(net.Dial("tcp", local))
	defer c.Close()
	began := time.Now()
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		_, _ = c.Write(data)
		_ = c.(*net.TCPConn).CloseWrite()
	})
	got, err := io.ReadAll(c)
	if err != nil {
		t.Log(err)
		c.Close()
		return false
	}
	got, _ = bytes.CutPrefix(got, []byte(name+"\n"))
	if sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("%d bytes of %d came back, or others", len(got), len(data))
	}
	took := time.Since(began)
	t.Logf("%d MiB there and back in %s (%.0f Mbit/s each way)", len(data)>>20, took, float64(len(data))*8/1e6/took.Seconds())
	// Nothing of it went another way.
	for i, a := range ends {
		if n := count(a.node, "punch: met"); n != met[i] {
			t.Logf("%s: %d meetings, %d before the job: %v", a.name, n, met[i], a.node.Stats())
			return false
		}
	}
	return true
}
