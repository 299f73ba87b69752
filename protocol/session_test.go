package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"culvert/protocol/key"
)

var sampleFrom = netip.MustParseAddrPort("192.0.2.1:7700")

// newSessions agrees on one session from fixed keys.
func newSessions(t testing.TB) (a, b *Session) {
	p := newPair(t)
	ea, err := key.NewSealing(pattern(50, 32))
	must(t, err)
	eb, err := key.NewSealing(pattern(90, 32))
	must(t, err)
	bCert := &CertifiedNode{ID: p.bID, Signing: p.b.Signing.Public()}
	params := SessionParams{Local: p.aID, Peer: bCert, Index: 11, Remote: 22, Initiator: true, Opening: Hash(pattern(1, 32)), Opened: Hash(pattern(2, 32))}
	a, err = NewSession(params, ea, eb.Public())
	must(t, err)
	params.Local, params.Peer, params.Index, params.Remote, params.Initiator = p.bID, p.aCert, 22, 11, false
	b, err = NewSession(params, eb, ea.Public())
	must(t, err)
	return a, b
}

func TestSession(t *testing.T) {
	a, b := newSessions(t)
	m, err := a.AppendSealed(nil, CmdGetNodeInfo, false, 99, []byte("question"))
	must(t, err)
	golden(t, "sealedGetNodeInfo", m)
	r, err := b.AppendSealed(nil, CmdNodeInfo, true, 99, []byte("answer"))
	must(t, err)
	golden(t, "sealedNodeInfo", r)
	var v Verified
	must(t, b.Open(&v, bytes.Clone(m), sampleFrom))
	if v.Command != CmdGetNodeInfo || v.Reply || v.MessageID != 99 || string(v.Payload) != "question" || v.From != sampleFrom ||
		v.Session != 22 || v.Sender != a.Local || v.Receiver != b.Local || v.Raw != nil || v.ReplyLimit != MaxSessionPayload {
		t.Errorf("opened as %+v", v)
	}
	must(t, a.Open(&v, bytes.Clone(r), sampleFrom))
	if !v.Reply || string(v.Payload) != "answer" {
		t.Errorf("opened as %+v", v)
	}
	if err := a.Open(&v, bytes.Clone(m), sampleFrom); !errors.Is(err, ErrOpen) {
		t.Errorf("own message sent back: %v", err)
	}
	if err := b.Open(&v, bytes.Clone(m), sampleFrom); !errors.Is(err, ErrWindow) {
		t.Errorf("second sight: %v", err)
	}
	xa, err := a.Exporter("tunnels")
	must(t, err)
	xb, err := b.Exporter("tunnels")
	must(t, err)
	if other, _ := a.Exporter("else"); !bytes.Equal(xa, xb) || bytes.Equal(xa, other) {
		t.Error("exported secrets")
	}
	if s := fmt.Sprintf("%v %+v %#v", a, a, a); strings.Count(s, "redacted") != 3 {
		t.Errorf("printed as %s", s)
	}
}

// TestSessionBinding changes one thing at a time that both ends must agree on.
func TestSessionBinding(t *testing.T) {
	ea, _ := key.NewSealing(pattern(50, 32))
	eb, _ := key.NewSealing(pattern(90, 32))
	p := newPair(t)
	base := SessionParams{Local: p.aID, Peer: p.aCert, Index: 1, Remote: 1, Initiator: true, Opening: Hash{1}, Opened: Hash{2}}
	a, err := NewSession(base, ea, eb.Public())
	must(t, err)
	for name, change := range map[string]func(*SessionParams){
		"opening": func(p *SessionParams) { p.Opening[0]++ }, "opened": func(p *SessionParams) { p.Opened[31]++ },
		"same side": func(p *SessionParams) { p.Initiator = true },
	} {
		q := base
		q.Initiator = false
		change(&q)
		b, err := NewSession(q, eb, ea.Public())
		must(t, err)
		m, err := a.AppendSealed(nil, CmdPing, false, 1, nil)
		must(t, err)
		if err := b.Open(new(Verified), m, sampleFrom); !errors.Is(err, ErrOpen) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, low := range lowOrder {
		if _, err := NewSession(base, ea, low); err == nil {
			t.Errorf("agreed with %x", low[:4])
		}
	}
}

func TestSessionTampering(t *testing.T) {
	a, b := newSessions(t)
	m, err := a.AppendSealed(nil, CmdPing, false, 1, []byte{0x90})
	must(t, err)
	var v Verified
	for i := range m {
		c := bytes.Clone(m)
		c[i] ^= 0x10
		if err := b.Open(&v, c, sampleFrom); err == nil {
			t.Fatalf("byte %d changed, opened", i)
		}
		if err := b.Open(&v, bytes.Clone(m[:i]), sampleFrom); err == nil {
			t.Fatalf("%d of %d bytes opened", i, len(m))
		}
	}
	if err := b.Open(&v, append(bytes.Clone(m), 0), sampleFrom); err == nil {
		t.Fatal("a byte too many taken")
	}
	must(t, b.Open(&v, m, sampleFrom)) // all that has not moved the window
}

func TestSessionLimits(t *testing.T) {
	a, b := newSessions(t)
	m, err := a.AppendSealed(nil, CmdPut, false, 1, make([]byte, MaxSessionPayload))
	must(t, err)
	if len(m) != MaxDatagram {
		t.Errorf("largest payload makes %d bytes", len(m))
	}
	if _, err := a.AppendSealed(nil, CmdPut, false, 1, make([]byte, MaxSessionPayload+1)); !errors.Is(err, ErrOversized) {
		t.Errorf("a byte more: %v", err)
	}
	if err := b.Open(new(Verified), make([]byte, MaxDatagram+1), sampleFrom); !errors.Is(err, ErrOversized) {
		t.Errorf("1,201 bytes: %v", err)
	}
	a.sent.Store(maxPackets)
	for range 3 {
		if _, err := a.AppendSealed(nil, CmdPing, false, 1, nil); !errors.Is(err, ErrExhausted) {
			t.Errorf("past the last counter: %v", err)
		}
	}
}

func TestSessionAllocatesNothing(t *testing.T) {
	a, b := newSessions(t)
	buf, payload := make([]byte, 0, MaxDatagram+16), make([]byte, 200)
	var v Verified
	if n := testing.AllocsPerRun(1000, func() {
		m, err := a.AppendSealed(buf, CmdPing, false, 1, payload)
		if err != nil || b.Open(&v, m, sampleFrom) != nil {
			t.Fatal("does not open")
		}
	}); n != 0 {
		t.Errorf("%v allocations a message", n)
	}
}

// TestWindow compares the bitmap with a set, over jumps, steps back and repeats.
func TestWindow(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var w window
		seen := make(map[uint64]bool)
		top := uint64(0)
		at := uint64(1 + rng.IntN(100000))
		for range 4000 {
			switch rng.IntN(20) {
			case 0:
				at += uint64(rng.IntN(3 * WindowSize))
			case 1, 2, 3, 4:
				at -= min(at, uint64(rng.IntN(WindowSize+200)))
			default:
				at += uint64(rng.IntN(4))
			}
			want := at != 0 && !seen[at] && at+WindowSize > top
			if got := w.fits(at); got != want {
				t.Fatalf("counter %d below top %d: %v, want %v", at, top, got, want)
			}
			if want {
				w.mark(at)
				seen[at], top = true, max(top, at)
			}
		}
	}
}

func TestIndexIsNeverZero(t *testing.T) {
	i, err := NewIndex(bytes.NewReader(append(make([]byte, 8), 1, 2, 3, 4, 5, 6, 7, 8)))
	if err != nil || i != 0x0102030405060708 {
		t.Errorf("%x, %v", i, err)
	}
	if _, err := NewIndex(bytes.NewReader(make([]byte, 80))); err == nil {
		t.Error("zeros taken for randomness")
	}
	if _, err := NewIndex(bytes.NewReader(nil)); err == nil {
		t.Error("no randomness taken")
	}
}
