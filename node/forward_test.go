package node

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"culvert/protocol"
)

var testNow = time.UnixMilli(1_800_000_000_000)

func testID(d protocol.Domain, fill byte) protocol.ID {
	return protocol.NewID(d, protocol.Hash(bytes.Repeat([]byte{fill}, 32)))
}

type forwardTest struct {
	*forwarder
	dropped []string
	there   map[protocol.ID]bool
}

func newForwardTest(t *testing.T) *forwardTest {
	f := &forwardTest{there: make(map[protocol.ID]bool)}
	var err error
	f.forwarder, err = newForwarder(rand.Reader, func(id protocol.ID) bool { return f.there[id] }, func(s string) { f.dropped = append(f.dropped, s) })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func verified(t *testing.T, from, to protocol.ID, p protocol.Payload) *protocol.Verified {
	b, err := protocol.AppendPayload(nil, p)
	if err != nil {
		t.Fatal(err)
	}
	return &protocol.Verified{Sender: from, Receiver: to, Command: p.Command(), Payload: b, ReplyLimit: protocol.MaxPayload}
}

// The whole way: request to the super-node, on to the tunnel-node, the answer back to who asked, with no state between.
func TestForwardThereAndBack(t *testing.T) {
	f := newForwardTest(t)
	user, target, super := testID(7, 1), testID(7, 2), testID(9, 3)
	f.there[target] = true
	outs := f.request(testNow, verified(t, user, super, protocol.ForwardedTunnelRequest{Target: target, Request: []byte("signed"), Node: []byte("cert")}))
	if len(outs) != 2 || !outs[0].Reply || outs[1].To != target {
		t.Fatalf("outs: %+v", outs)
	}
	fwd, err := protocol.ParsePayload[protocol.ForwardedTunnelRequest](outs[1].Payload)
	if err != nil || string(fwd.Request) != "signed" || string(fwd.Node) != "cert" || len(fwd.Cookie) == 0 {
		t.Fatalf("forwarded %+v, %v", fwd, err)
	}
	if bytes.Contains(fwd.Cookie, user[:16]) {
		t.Error("the cookie shows who asked")
	}
	back := f.answer(testNow.Add(time.Second), verified(t, target, super, protocol.ForwardedTunnelOpened{Answer: []byte("opened"), Cookie: fwd.Cookie}))
	if len(back) != 1 || back[0].To != user {
		t.Fatalf("back: %+v", back)
	}
	m, err := protocol.ParsePayload[protocol.ForwardedTunnelOpened](back[0].Payload)
	if err != nil || string(m.Answer) != "opened" || len(m.Cookie) != 0 {
		t.Errorf("answer %+v, %v", m, err)
	}
}

func TestForwardRefusals(t *testing.T) {
	user, target, super := testID(7, 1), testID(7, 2), testID(9, 3)
	t.Run("foreign target", func(t *testing.T) {
		f := newForwardTest(t)
		f.there[testID(8, 2)] = true
		if outs := f.request(testNow, verified(t, user, super, protocol.ForwardedTunnelRequest{Target: testID(8, 2)})); outs != nil {
			t.Errorf("answered %+v", outs)
		}
		if len(f.dropped) != 1 || f.dropped[0] != "foreign domain" {
			t.Errorf("counted %v", f.dropped)
		}
	})
	t.Run("target not in contact", func(t *testing.T) {
		f := newForwardTest(t)
		outs := f.request(testNow, verified(t, user, super, protocol.ForwardedTunnelRequest{Target: target}))
		if len(outs) != 1 || !outs[0].Reply {
			t.Fatalf("outs %+v", outs)
		}
		if m, err := protocol.ParsePayload[protocol.ForwardedTunnelOpened](outs[0].Payload); err != nil || m.Status != protocol.StatusUnknown {
			t.Errorf("%+v %v", m, err)
		}
	})
	t.Run("cookies", func(t *testing.T) {
		f := newForwardTest(t)
		c, err := f.cookie(testNow, user)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c {
			bad := bytes.Clone(c)
			bad[i] ^= 1
			if _, ok := f.openCookie(testNow, bad); ok {
				t.Fatalf("byte %d changed and accepted", i)
			}
		}
		for n := range c {
			if _, ok := f.openCookie(testNow, c[:n]); ok {
				t.Fatalf("truncation to %d accepted", n)
			}
		}
		if _, ok := f.openCookie(testNow.Add(cookieLife+time.Second), c); ok {
			t.Error("old cookie accepted")
		}
		if _, ok := newForwardTest(t).openCookie(testNow, c); ok {
			t.Error("another node's cookie accepted")
		}
		// An answer from another domain than who asked goes nowhere.
		if outs := f.answer(testNow, verified(t, testID(8, 5), super, protocol.ForwardedTunnelOpened{Cookie: c})); outs != nil {
			t.Errorf("foreign answer passed on: %+v", outs)
		}
	})
}

func FuzzForward(f *testing.F) {
	f.Add([]byte{0x94, 0xc4, 0}, true)
	fw, err := newForwarder(rand.Reader, func(protocol.ID) bool { return true }, func(string) {})
	if err != nil {
		f.Fatal(err)
	}
	user, super := testID(7, 1), testID(9, 3)
	f.Fuzz(func(t *testing.T, b []byte, request bool) {
		v := &protocol.Verified{Sender: user, Receiver: super, Payload: b}
		if request {
			fw.request(testNow, v)
		} else if outs := fw.answer(testNow, v); outs != nil {
			t.Error("an answer without a cookie of ours was passed on")
		}
	})
}
