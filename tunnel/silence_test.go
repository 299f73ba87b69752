package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"culvert/tunnel/link"
)

// Connections are opened all the time while what carries them falls silent without a word, as behind a router that lost its
// table: those on it end with an error, none hangs or brings other bytes, and new ones find another way.
func TestConnectionsWhileTheRelayFallsSilent(t *testing.T) {
	w, user, node := two(t, func(_ *agent, c *Config, _ *Identity) { c.Timing = link.Timing{} })
	node.isolated = true
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	once := func() error {
		c, err := net.Dial("tcp", tn.Local().String())
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(longEnough))
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		b := make([]byte, 5)
		if _, err = io.ReadFull(c, b); err == nil && string(b) != "hello" {
			t.Errorf("wrong bytes: %q", b)
		}
		return err
	}
	running := dialTunnel(t, tn)
	_ = running.SetDeadline(time.Now().Add(longEnough))
	_, err := running.Write([]byte("hello"))
	check(t, err)
	_, err = io.ReadFull(running, make([]byte, 5))
	check(t, err)
	used := tn.Info().Relay
	for _, r := range w.relays {
		if r.peer.ID == used {
			r.mu.Lock()
			r.frozen = make(chan struct{})
			r.mu.Unlock()
			t.Cleanup(func() { close(r.frozen) })
		}
	}
	type outcome struct {
		opened, took time.Duration
		err          error
	}
	began := time.Now()
	results := make(chan outcome, 1000)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var lastBad, longest time.Duration
	bad, good, waiting := 0, 0, 0
	for good < 20 || waiting > 0 {
		select {
		case <-tick.C:
			if good >= 20 {
				continue
			}
			waiting++
			opened := time.Since(began)
			go func() {
				err := once()
				results <- outcome{opened, time.Since(began) - opened, err}
			}()
		case r := <-results:
			waiting--
			longest = max(longest, r.took)
			switch {
			case r.err == nil:
				good++
			case errors.Is(r.err, os.ErrDeadlineExceeded):
				t.Error("a connection hung")
				bad++
			default:
				bad, lastBad = bad+1, max(lastBad, r.opened)
			}
		}
		if time.Since(began) > 2*longEnough {
			t.Fatal("connections do not work again")
		}
	}
	if _, err := running.Read(make([]byte, 1)); err == nil || err == io.EOF || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection on the silent relay ended with %v", err)
	}
	t.Logf("%d failed; the last of them was opened after %v, and none took longer than %v", bad, lastBad, longest)
}
