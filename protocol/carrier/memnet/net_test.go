package memnet

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// inbox collects what one socket gets.
type inbox struct {
	texts []string
	from  []netip.AddrPort
	at    []time.Duration
}

func (b *inbox) receive(now time.Time, from netip.AddrPort, data []byte) {
	b.texts = append(b.texts, string(data))
	b.from = append(b.from, from)
	b.at = append(b.at, now.Sub(start))
}

// pair is two hosts on the open internet, the second one listening.
func pair(n *Net) (a *Socket, b *Socket, got *inbox) {
	got = new(inbox)
	a = n.Host(nil, addr("198.51.100.1"), addr("2001:db8::1")).Listen(1000, nil)
	b = n.Host(nil, addr("198.51.100.2"), addr("2001:db8::2")).Listen(2000, got.receive)
	return a, b, got
}

func TestDelivery(t *testing.T) {
	n := New(1, start)
	a, b, got := pair(n)
	data := []byte("four")
	a.Send(b.Addr(), data)
	copy(data, "XXXX")
	a.Send(netip.MustParseAddrPort("[2001:db8::2]:2000"), []byte("six"))
	a.Send(netip.MustParseAddrPort("[::ffff:198.51.100.2]:2000"), []byte("mapped"))
	if len(got.texts) != 0 {
		t.Fatal("delivered inside Send")
	}
	for n.Step() {
	}
	if fmt.Sprint(got.texts) != "[four six mapped]" {
		t.Fatal(got.texts)
	}
	if fmt.Sprint(got.from) != "[198.51.100.1:1000 [2001:db8::1]:1000 198.51.100.1:1000]" {
		t.Fatal(got.from)
	}
}

func TestClockAndTimers(t *testing.T) {
	n := New(1, start)
	var order []string
	n.After(2*time.Second, func() { order = append(order, "late") })
	n.After(time.Second, func() {
		order = append(order, "early")
		n.After(0, func() { order = append(order, "at once") })
	})
	n.After(time.Second, func() { order = append(order, "second") })
	stopped := n.After(time.Second, func() { order = append(order, "never") })
	if !stopped.Stop() || stopped.Stop() {
		t.Fatal("Stop is in time once")
	}
	n.RunUntil(start.Add(1500 * time.Millisecond))
	if fmt.Sprint(order) != "[early second at once]" || !n.Now().Equal(start.Add(1500*time.Millisecond)) {
		t.Fatal(order, n.Now())
	}
	n.RunFor(time.Second)
	if len(order) != 4 || n.Step() {
		t.Fatal(order)
	}
}

func TestLinks(t *testing.T) {
	const count = 10_000
	send := func(l Link) (*Net, *inbox) {
		n := New(7, start)
		a, b, got := pair(n)
		b.host.SetLink(l)
		for i := range count {
			n.After(time.Duration(i)*100*time.Microsecond, func() { a.Send(b.Addr(), fmt.Appendf(nil, "%05d", i)) })
		}
		for n.Step() {
		}
		return n, got
	}
	_, got := send(Link{Latency: 30 * time.Millisecond})
	if len(got.at) != count || got.at[1] != 30*time.Millisecond+100*time.Microsecond || !slices.IsSorted(got.texts) {
		t.Error("latency:", len(got.at), got.at[:2])
	}
	_, got = send(Link{Latency: 30 * time.Millisecond, Jitter: 10 * time.Millisecond})
	if len(got.at) != count || !slices.IsSorted(got.texts) {
		t.Error("jitter must not reorder")
	}
	n, got := send(Link{Loss: 0.1})
	if lost := n.Stats()["lost"]; lost < 900 || lost > 1100 || len(got.texts) != count-int(lost) {
		t.Error("loss:", n.Stats())
	}
	n, got = send(Link{Duplicate: 0.1})
	if twice := n.Stats()["duplicated"]; twice < 900 || twice > 1100 || len(got.texts) != count+int(twice) {
		t.Error("duplicates:", n.Stats())
	}
	_, got = send(Link{Latency: time.Millisecond, Reorder: 0.1})
	if slices.IsSorted(got.texts) || len(got.texts) != count {
		t.Error("reorder")
	}
}

func TestNothingArrivesWhereItCannot(t *testing.T) {
	for reason, act := range map[string]func(*Net, *Socket, *Socket){
		"down":      func(_ *Net, _, b *Socket) { b.host.SetUp(false) },
		"split":     func(n *Net, a, _ *Socket) { n.Split([]Node{a.host}) },
		"no socket": func(_ *Net, _, b *Socket) { b.Close() },
		"no route":  func(_ *Net, _, b *Socket) { b.host.Move(nil, addr("203.0.113.9")) },
		"lost":      func(_ *Net, a, _ *Socket) { a.host.SetLink(Link{Loss: 1}) },
	} {
		t.Run(reason, func(t *testing.T) {
			n := New(1, start)
			a, b, got := pair(n)
			to := b.Addr()
			act(n, a, b)
			a.Send(to, []byte("x"))
			n.RunFor(time.Second)
			if len(got.texts) != 0 || n.Stats()[reason] != 1 {
				t.Fatal(got.texts, n.Stats())
			}
		})
	}
}

func TestInFlight(t *testing.T) {
	n := New(1, start)
	a, b, got := pair(n)
	b.host.SetLink(Link{Latency: time.Second})
	a.Send(b.Addr(), []byte("before the split"))
	n.RunFor(500 * time.Millisecond)
	n.Split([]Node{b.host})
	n.RunFor(time.Second)
	n.Heal()
	a.Send(b.Addr(), []byte("before the move"))
	n.RunFor(500 * time.Millisecond)
	b.host.Move(nil, addr("203.0.113.9"))
	n.RunFor(time.Second)
	if len(got.texts) != 0 {
		t.Fatal(got.texts)
	}
	a.Send(b.Addr(), []byte("after"))
	n.RunFor(time.Second)
	if fmt.Sprint(got.texts) != "[after]" {
		t.Fatal(got.texts)
	}
}

func TestUpAgain(t *testing.T) {
	n := New(1, start)
	a, b, got := pair(n)
	for _, up := range []bool{false, true} {
		a.host.SetUp(up)
		a.Send(b.Addr(), []byte(fmt.Sprint(up)))
	}
	n.RunFor(time.Second)
	if fmt.Sprint(got.texts) != "[true]" {
		t.Fatal(got.texts)
	}
}

func TestSplitGroupsStayTogether(t *testing.T) {
	n := New(1, start)
	home := n.NAT(FullCone(), nil, addr("203.0.113.1"))
	inside := n.Host(home, addr("192.168.1.2")).Listen(1, nil)
	var sockets []*Socket
	boxes := make([]inbox, 4)
	for i := range boxes {
		h := n.Host(nil, netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
		sockets = append(sockets, h.Listen(1, boxes[i].receive))
	}
	n.Split([]Node{sockets[0].host, home}, []Node{sockets[1].host})
	for _, from := range append(sockets, inside) {
		for _, to := range sockets {
			from.Send(to.Addr(), nil)
		}
	}
	n.RunFor(time.Second)
	for i, want := range []int{2, 1, 2, 2} { // itself and: what is behind the NAT; –; each other
		if len(boxes[i].texts) != want {
			t.Errorf("host %d got %d, want %d", i, len(boxes[i].texts), want)
		}
	}
}

func TestSetupMistakesPanic(t *testing.T) {
	n := New(1, start)
	h := n.Host(nil, addr("198.51.100.1"))
	h.Listen(5, nil)
	for name, mistake := range map[string]func(){
		"address": func() { n.Host(nil, addr("198.51.100.1")) },
		"mapped":  func() { n.Host(nil, addr("::ffff:198.51.100.9")) },
		"port":    func() { h.Listen(5, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Fatal("accepted")
				}
			}()
			mistake()
		})
	}
	if a, b := h.Listen(0, nil), h.Listen(0, nil); a.Port() == b.Port() || a.Port() < firstEphemeral {
		t.Fatal(a.Port(), b.Port())
	}
}

// BenchmarkPing is one round trip between two of a thousand sockets.
func BenchmarkPing(b *testing.B) {
	n := New(1, start)
	sockets := make([]*Socket, 1000)
	for i := range sockets {
		h := n.Host(nil, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		h.SetLink(Link{Latency: 10 * time.Millisecond})
		s := h.Listen(7700, nil)
		s.OnReceive(func(_ time.Time, from netip.AddrPort, data []byte) {
			if data[0] == 1 {
				s.Send(from, []byte{2})
			}
		})
		sockets[i] = s
	}
	b.ReportAllocs()
	for i := range b.N {
		sockets[i%1000].Send(sockets[(i*7+1)%1000].Addr(), []byte{1})
		if i%1000 == 999 {
			n.RunFor(time.Second)
		}
	}
}
