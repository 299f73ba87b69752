//go:build unix

package nodetest

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
	"culvert/protocol"
)

// said is a process's log.
type said struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

func (s *said) says(what string) bool { return s.count(what) > 0 }

func (s *said) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Count(s.log.String(), what)
}

// A super-node with 256 descriptors that is also a tunnel-node has its connections used up: it says so, goes on answering lookups
// and its local API, carries those that stand, and takes new ones when there is room again.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	const limit = 256
	m := newMesh(t, "acme")
	d := newDevice(t, "printer")
	log := new(said)
	super := &process{agent: m.enrolled("super", "acme"), said: log}
	super.wrap = func(c *exec.Cmd) {
		c.Args = []string{"sh", "-c", `ulimit -n ` + strconv.Itoa(limit) + ` && exec "$0"`, c.Path}
		c.Path = must[string](t)(exec.LookPath("sh"))
		c.Env = append(c.Env, envConsent+"="+d.name+" "+d.portText())
	}
	super.start()
	t.Cleanup(super.kill)
	super.serving()
	files := func() client.OpenFiles {
		return must[client.Status](t)(super.api.Status(t.Context())).OpenFiles
	}
	if f := files(); f.Limit != limit || !f.Few || f.Connections != limit*4/5 || f.Refused != 0 {
		t.Errorf("at first: %+v", f)
	}
	eventually(t, "the log says that there are few descriptors", func() bool { return log.says("few file descriptors") })
	m.device(super.agent, d)
	m.announced(super.agent, super.agent)
	user := m.agent("user", "acme", func(c *config.Config) { c.Tunnel = false })
	user.sees(d.name)
	tn := user.opens(client.OpenRequest{Device: d.name, Port: d.portText()})
	var open []net.Conn
	eventually(t, "a connection is refused", func() bool {
		for len(open) < limit {
			c, ok := say(t, tn.Local, d.name)
			if !ok {
				break // for want of room, or of time
			}
			open = append(open, c)
		}
		return files().Refused > 0
	})
	if n := len(open); n < limit/2 || n >= limit*4/5 {
		t.Errorf("%d connections had room", n)
	}
	eventually(t, "the log says that connections are refused", func() bool { return log.says("the last fifth is for lookups") })
	p := m.probe("acme", false)
	for range 100 {
		if l := p.listed(super.peer(), protocol.GetNodeInfo{ID: super.id("")}); len(l) != 1 {
			t.Fatalf("a lookup found %d records", len(l))
		}
	}
	for _, c := range open {
		echo(t, c, c)
	}
	for _, c := range open[:len(open)/2] {
		c.Close()
	}
	eventually(t, "a connection has room again", func() bool { _, ok := say(t, tn.Local, d.name); return ok })
}

// say is talk for a connection that may be refused.
func say(t testing.TB, local, name string) (net.Conn, bool) {
	t.Helper()
	c := must[net.Conn](t)(net.DialTimeout("tcp", local, patience))
	t.Cleanup(func() { c.Close() })
	noError(t, c.SetDeadline(time.Now().Add(patience)))
	s, err := bufio.NewReaderSize(io.LimitReader(c, int64(len(name)+1)), 16).ReadString('\n')
	return c, err == nil && s == name+"\n"
}
