package tunnel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// behindNATs is a user and a tunnel-node behind NATs at different sites, who can meet by UDP alone.
func behindNATs(t testing.TB) (*world, *agent, *agent) {
	w := newWorld(t)
	user := w.agent(testDomain, 1, prefixes("192.168.1.20/24"), punching("203.0.113.1:7700"))
	node := w.agent(testDomain, 2, prefixes("192.168.7.10/24"), punching("203.0.113.2:7700"))
	return w, user, node
}

func TestPunched(t *testing.T) {
	w, user, node := behindNATs(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	tn := user.tunnel(t, "echo", 9100)
	if info := tn.Info(); info.Route != Punched || info.TunnelNode != node.node.ID {
		t.Fatalf("wanted punched: %+v", info)
	}
	data := noise(3 << 20)
	if got := exchange(t, dialTunnel(t, tn), data); !bytes.Equal(got, data) {
		t.Error("other bytes came back")
	}
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			c, err := net.Dial("tcp", tn.Local().String())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			data := noise(5000)
			go func() {
				_, _ = c.Write(data)
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
			}
		})
	}
	wg.Wait()
	if s := node.Served(); len(s) == 0 || s[0].Route != Punched {
		t.Errorf("the tunnel-node's receipt: %+v", s)
	}
	if n := user.Stats()["links now"]; n != 1 {
		t.Errorf("%d links", n)
	}
}

func TestPunchedBulk(t *testing.T) {
	size := 100 << 20
	if testing.Short() {
		size = 8 << 20
	}
	w, user, node := behindNATs(t)
	w.device("hash", "192.168.7.50:9100", 2, hashDevice, node)
	tn := user.tunnel(t, "hash", 9100, Punched)
	data := noise(size)
	want := sha256.Sum256(data)
	if got := exchange(t, dialTunnel(t, tn), data); !bytes.Equal(got, want[:]) {
		t.Error("the device got other bytes")
	}
	if n := node.Stats()["bulk taken"]; n != 1 {
		t.Errorf("%d flows with a stream of their own", n)
	}
}

func TestPunchedEnds(t *testing.T) {
	w, user, node := behindNATs(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	gone := make(chan struct{})
	w.device("reset", "192.168.7.51:9100", 2, func(c *net.TCPConn) {
		defer c.Close()
		if _, err := c.Read(make([]byte, 1)); err == nil { // not the probe
			abort(c)
			close(gone)
		}
	}, node)
	// A device that resets: the program's connection ends with an error, not in order.
	c := dialTunnel(t, user.tunnel(t, "reset", 9100, Punched))
	_, err := c.Write([]byte{1})
	check(t, err)
	<-gone
	if _, err := io.ReadAll(c); err == nil {
		t.Error("a reset arrived as an orderly end")
	}
	// A revoked user: the node says so, and everything ends on both sides.
	tn := user.tunnel(t, "echo", 9100, Punched)
	c = dialTunnel(t, tn)
	_, err = c.Write([]byte("hello"))
	check(t, err)
	_, err = io.ReadFull(c, make([]byte, 5))
	check(t, err)
	l := tn.path.link
	if n := node.CloseWhere(func(id protocol.ID) bool { return id == user.node.ID }); n != 1 {
		t.Errorf("%d links ended", n)
	}
	if _, err := io.ReadAll(c); err == nil {
		t.Error("a revoked node's connection ended in order")
	}
	var goneErr *link.GoneError
	if err := l.Wait(); !errors.As(err, &goneErr) || goneErr.Reason != link.ReasonRevoked {
		t.Errorf("the user learned %v", err)
	}
	w.mu.Lock()
	w.revoked[user.node.ID] = true // not before: the sweep of either end would close the link too
	w.mu.Unlock()
	if _, err := user.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100, Routes: []Route{Punched}}); err == nil {
		t.Error("a revoked node got another tunnel")
	}
}

func TestPunchedWantsTwo(t *testing.T) {
	w, user, node := behindNATs(t)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	open := func() error {
		_, err := user.Open(context.Background(), OpenRequest{Device: "echo", Port: 9100, Routes: []Route{Punched}})
		return err
	}
	node.puncher.deaf.Store(true)
	if open() == nil {
		t.Error("punched with a node that takes no part")
	}
	node.puncher.deaf.Store(false)
	user.puncher.deaf.Store(true)
	if open() == nil {
		t.Error("punched by a node that takes no part")
	}
}

// A request that comes again, by another super-node, has no second meeting.
func TestOneMeetingPerToken(t *testing.T) {
	w, user, node := behindNATs(t)
	d := w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	c, punch, err := user.puncher.Offer(context.Background(), user.node.ID)
	check(t, err)
	for range 2 {
		a, _, err := user.Request(context.Background(), user.node.ID, Target{Node: node.node}, protocol.TunnelRequest{
			Device: d.ID, Port: 9100, Protocol: protocol.TCP, Token: protocol.Hash{1}, Candidates: c, Punch: punch,
		})
		check(t, err)
		if a.Status != protocol.StatusOK || !a.Punch.Wanted || len(a.Candidates) != 1 {
			t.Errorf("answer %+v", a)
		}
	}
	node.Close()
	if n := node.puncher.meetings.Load(); n > 1 {
		t.Errorf("%d meetings", n)
	}
}

// A requester has few meetings at a time, whatever it asks for, and a domain half of what there is.
func TestFewMeetingsOfAPeer(t *testing.T) {
	w, user, node := behindNATs(t)
	other := w.agent(testDomain, 3, prefixes("192.168.2.20/24"), punching("203.0.113.3:7700"))
	d := w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	ask := func(a *agent, token byte) protocol.TunnelOpened {
		t.Helper()
		c, punch, err := a.puncher.Offer(context.Background(), a.node.ID)
		check(t, err)
		opened, _, err := a.Request(context.Background(), a.node.ID, Target{Node: node.node}, protocol.TunnelRequest{
			Device: d.ID, Port: 9100, Protocol: protocol.TCP, Token: protocol.Hash{token}, Candidates: c, Punch: punch,
		})
		check(t, err)
		if opened.Status != protocol.StatusOK {
			t.Fatalf("answer %+v", opened)
		}
		return opened
	}
	const many = 20 // the requester never comes, so each meeting waits
	wanted := 0
	for i := range byte(many) {
		if ask(user, i+1).Punch.Wanted {
			wanted++
		}
	}
	if wanted != peerMeetings {
		t.Errorf("%d meetings at a time with one peer, not %d", wanted, peerMeetings)
	}
	if !ask(user, 1).Punch.Wanted {
		t.Error("a meeting under way was refused its answer")
	}
	if !ask(other, 1).Punch.Wanted {
		t.Error("somebody else found no place")
	}
	node.Close()
	node.mu.Lock()
	if n := len(node.meetings); n != 0 {
		t.Errorf("%d meetings are remembered", n)
	}
	node.mu.Unlock()
	for i := range byte(2 * domainMeetings) {
		_, room := node.takeMeeting(meetingKey{protocol.NewID(testDomain, protocol.Hash{i}), protocol.Hash{i}})
		if room != (i < domainMeetings) {
			t.Fatalf("the %d. of a domain: %t", i+1, room)
		}
	}
	if _, room := node.takeMeeting(meetingKey{protocol.NewID(testDomain+1, protocol.Hash{1}), protocol.Hash{1}}); !room {
		t.Error("another domain found no place")
	}
}

// Whom a tunnel-node sends to: nobody's private addresses but those on its own links.
func TestPunchSendsToPublicOnly(t *testing.T) {
	_, _, node := behindNATs(t)
	udp := func(a string) protocol.Candidate {
		return protocol.Candidate{Kind: protocol.CandidateHost, Protocol: protocol.UDP, Addr: addrOf(a)}
	}
	for a, want := range map[string]bool{
		"203.0.113.9:7700": true, "192.168.7.99:7700": true, "192.168.1.20:7700": false, "10.0.0.1:53": false,
		"127.0.0.1:7700": false, "169.254.169.254:80": false, "224.0.0.251:5353": false, "203.0.113.9:0": false,
		"192.168.7.255:7700": false, "192.168.7.0:7700": false, "[fe80::1]:7700": false, "[::ffff:127.0.0.1]:7700": false, "0.0.0.0:7700": false,
	} {
		if got := len(node.sendable([]protocol.Candidate{udp(a)}, false)) == 1; got != want {
			t.Errorf("%s: sent to: %t", a, got)
		}
	}
	tcp := udp("203.0.113.9:7700")
	tcp.Protocol = protocol.TCP
	if len(node.sendable([]protocol.Candidate{tcp}, true)) != 0 {
		t.Error("a TCP candidate was sent to by UDP")
	}
	if len(node.sendable([]protocol.Candidate{udp("192.168.1.20:7700")}, true)) != 1 {
		t.Error("an address of a shared location was not sent to")
	}
}

func addrOf(s string) protocol.Addr { return protocol.AddrOf(netip.MustParseAddrPort(s)) }
