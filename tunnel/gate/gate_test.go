package gate

import (
	"net"
	"testing"
)

func from(s string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(s), Port: 1} }

func TestPlaces(t *testing.T) {
	g := New(3, 2)
	leave, ok := g.Enter(from("192.0.2.1"))
	if !ok {
		t.Fatal("no first place")
	}
	if _, ok := g.Enter(from("::ffff:192.0.2.1")); !ok {
		t.Error("no second place")
	}
	if _, ok := g.Enter(from("192.0.2.1")); ok {
		t.Error("a third place for one source")
	}
	if _, ok := g.Enter(from("2001:db8::1")); !ok {
		t.Error("no place for another source")
	}
	if _, ok := g.Enter(from("198.51.100.1")); ok {
		t.Error("a fourth place in all")
	}
	leave()
	leave()
	if g.inside != 2 {
		t.Errorf("%d inside after one has left", g.inside)
	}
	if _, ok := g.Enter(from("2001:db8::2")); !ok {
		t.Error("the free place was not given")
	}
	if n := g.sources[source(from("2001:db8::ffff"))]; n != 2 {
		t.Errorf("%d from the /64", n)
	}
}
