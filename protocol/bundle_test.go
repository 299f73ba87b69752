package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
)

// inner is one message of a bundle.
type inner struct {
	c       Command
	reply   bool
	id      uint64
	payload []byte
}

func pack(t testing.TB, s *Session, l ...inner) []byte {
	t.Helper()
	var p Packing
	p.Begin(make([]byte, 0, PackingRoom))
	for i, m := range l {
		if !p.Add(m.c, m.reply, m.id, m.payload) {
			t.Fatalf("no place for message %d", i)
		}
	}
	b, err := p.Seal(s)
	must(t, err)
	return b
}

// unpack opens a datagram and takes every message; those refused are nil.
func unpack(s *Session, b []byte) (l []*inner, err error) {
	var v Verified
	if err := s.Unseal(&v, bytes.Clone(b), sampleFrom); err != nil {
		return nil, err
	}
	for {
		more, err := v.Next()
		switch {
		case !more:
			return l, nil
		case err != nil:
			l = append(l, nil)
		default:
			l = append(l, &inner{v.Command, v.Reply, v.MessageID, bytes.Clone(v.Payload)})
		}
	}
}

func TestBundle(t *testing.T) {
	a, b := newSessions(t)
	sent := []inner{
		{CmdPing, false, 1, []byte{0x90}}, {CmdPong, true, 2, []byte("answer")}, {CmdGetNodeInfo, false, 1 << 60, nil},
	}
	m := pack(t, a, sent...)
	golden(t, "sealedBundle", m)
	got, err := unpack(b, m)
	must(t, err)
	if len(got) != len(sent) {
		t.Fatalf("%d messages", len(got))
	}
	for i, g := range got {
		if w := sent[i]; g == nil || g.c != w.c || g.reply != w.reply || g.id != w.id || !bytes.Equal(g.payload, w.payload) {
			t.Errorf("message %d: %+v, want %+v", i, g, w)
		}
	}
	if _, err := unpack(b, m); !errors.Is(err, ErrWindow) {
		t.Errorf("second sight: %v", err)
	}
	// Opened by who takes one message only, it is its first.
	var v Verified
	must(t, b.Open(&v, pack(t, a, sent...), sampleFrom))
	if v.MessageID != 1 || v.Session != 22 || v.Sender != a.Local || v.ReplyLimit != MaxSessionPayload {
		t.Errorf("opened as %+v", v)
	}
	if more, _ := v.Clone().Next(); more {
		t.Error("a copy has messages of the datagram's memory")
	}
}

// One message alone has the bytes that a sealed message always has.
func TestPackingOfOneIsASealedMessage(t *testing.T) {
	a, _ := newSessions(t)
	b, _ := newSessions(t)
	want, err := a.AppendSealed(nil, CmdGetNodeInfo, false, 99, []byte("question"))
	must(t, err)
	if got := pack(t, b, inner{CmdGetNodeInfo, false, 99, []byte("question")}); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestPackingIsFull(t *testing.T) {
	a, b := newSessions(t)
	var p Packing
	room := make([]byte, 0, PackingRoom)
	if p.Begin(room); p.Add(CmdPut, false, 1, make([]byte, MaxSessionPayload+1)) {
		t.Error("a message longer than a datagram was taken")
	}
	if _, err := p.Seal(a); err == nil {
		t.Error("an empty datagram was sealed")
	}
	if p.Begin(room); !p.Add(CmdPut, false, 1, make([]byte, MaxSessionPayload)) || p.Add(CmdPing, false, 2, nil) {
		t.Error("the longest message fills a datagram, and no other fits beside it")
	}
	if m, err := p.Seal(a); err != nil || len(m) != MaxDatagram || &m[0] != &room[:3][2] {
		t.Errorf("%d bytes, %v", len(m), err)
	}
	for size := range 200 {
		n := 0
		for p.Begin(room); p.Add(CmdPing, false, uint64(n), make([]byte, size)); n++ {
		}
		m, err := p.Seal(a)
		must(t, err)
		if len(m) > MaxDatagram || len(m)+bundleEach+sealedInner+size <= MaxDatagram {
			t.Fatalf("%d messages of %d bytes make %d", n, size, len(m))
		}
		if got, err := unpack(b, m); err != nil || len(got) != n {
			t.Fatalf("%d of %d messages of %d bytes: %v", len(got), n, size, err)
		}
	}
	a.sent.Store(maxPackets)
	if p.Begin(room); !p.Add(CmdPing, false, 1, nil) {
		t.Fatal("no place")
	}
	if _, err := p.Seal(a); !errors.Is(err, ErrExhausted) {
		t.Errorf("past the last counter: %v", err)
	}
}

// A datagram that was begun in memory for one message goes on in more, and takes nothing beyond what it has.
func TestPackingMoves(t *testing.T) {
	a, b := newSessions(t)
	for _, size := range []int{0, 1, 40, MaxSessionPayload} {
		var p Packing
		memory := make([]byte, PackingSize(size)+8)
		p.Begin(memory[:0:PackingSize(size)])
		if !p.Add(CmdPing, false, 1, make([]byte, size)) || p.Add(CmdPing, false, 2, nil) {
			t.Fatalf("memory for one message of %d bytes holds no message, or two", size)
		}
		alone := p
		fits := p.Fits(0)
		if p.Move(make([]byte, 0, PackingRoom)); p.Add(CmdPing, false, 2, nil) != fits || fits == (size == MaxSessionPayload) {
			t.Errorf("beside %d bytes: fits %v", size, fits)
		}
		for _, q := range []*Packing{&alone, &p} {
			m, err := q.Seal(a)
			must(t, err)
			if got, err := unpack(b, m); err != nil || len(got) != q.n || len(got[0].payload) != size {
				t.Errorf("%d messages, %v", len(got), err)
			}
		}
		if !bytes.Equal(memory[PackingSize(size):], make([]byte, 8)) {
			t.Error("memory of others was written to")
		}
	}
}

// sealText seals any plaintext as a datagram of type t, as only the peer itself could.
func sealText(t testing.TB, s *Session, kind byte, text []byte) []byte {
	t.Helper()
	counter, err := s.next()
	must(t, err)
	return s.seal(append(appendSealedHead(nil, kind, s.Remote, counter), text...), 0)
}

func bundleText(l ...[]byte) (b []byte) {
	for _, m := range l {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

// A bundle that is not two whole messages or more is dropped as a whole, even if the session's own peer made it.
func TestBundleIsStrict(t *testing.T) {
	a, b := newSessions(t)
	ping := append(appendInner(nil, CmdPing, false, 1), 0x90)
	good := bundleText(ping, ping, ping)
	for i := range good {
		got, err := unpack(b, sealText(t, a, TypeBundle, good[:i]))
		whole := i > 0 && i%(len(good)/3) == 0 && i >= 2*len(good)/3
		if whole != (err == nil) || err != nil && got != nil {
			t.Errorf("%d of %d bytes: %d messages, %v", i, len(good), len(got), err)
		}
	}
	long := bytes.Clone(good)
	long[1]++
	for name, text := range map[string][]byte{
		"one message": bundleText(ping), "nothing": nil, "a byte more": append(bytes.Clone(good), 0), "wrong length": long,
		"an empty message": bundleText(ping, nil, ping), "half a head": bundleText(ping, ping[:9], ping),
		"longest length": append(bundleText(ping), 0xff, 0xff),
	} {
		if got, err := unpack(b, sealText(t, a, TypeBundle, text)); err == nil || !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %d messages, %v", name, len(got), err)
		}
	}
	// A bundle's text is no message, and the other way round: the type is under the seal.
	m := pack(t, a, inner{CmdPing, false, 1, nil}, inner{CmdPing, false, 2, nil})
	for i := range m {
		c := bytes.Clone(m)
		if c[i] ^= 0x0f; i == 0 {
			c[0] = TypeSealed
		}
		if _, err := unpack(b, c); err == nil {
			t.Fatalf("byte %d changed, opened", i)
		}
		if _, err := unpack(b, m[:i]); err == nil {
			t.Fatalf("%d of %d bytes opened", i, len(m))
		}
	}
	if got, err := unpack(b, m); err != nil || len(got) != 2 {
		t.Errorf("%v, %v", got, err)
	}
}

// What is wrong with one message of a bundle is that message's affair.
func TestBundledMessagesStandAlone(t *testing.T) {
	a, b := newSessions(t)
	ping := appendInner(nil, CmdPing, false, 7)
	for name, bad := range map[string][]byte{
		"no command": appendInner(nil, 0, false, 1), "unknown command": appendInner(nil, CmdEnd, false, 1), "flags": {byte(CmdPing), 2, 0, 0, 0, 0, 0, 0, 0, 0},
	} {
		for at := range 3 {
			l := [][]byte{ping, ping, ping}
			l[at] = bad
			got, err := unpack(b, sealText(t, a, TypeBundle, bundleText(l...)))
			if err != nil || len(got) != 3 {
				t.Fatalf("%s: %d messages, %v", name, len(got), err)
			}
			for i, m := range got {
				if (m == nil) != (i == at) || m != nil && m.id != 7 {
					t.Errorf("%s at %d: message %d is %+v", name, at, i, m)
				}
			}
		}
	}
}

func TestBundleAllocatesNothing(t *testing.T) {
	a, b := newSessions(t)
	var (
		p       Packing
		v       Verified
		room    = make([]byte, 0, PackingRoom)
		payload = make([]byte, 20)
	)
	if n := testing.AllocsPerRun(500, func() {
		p.Begin(room)
		for p.Add(CmdPing, false, 1, payload) {
		}
		m, err := p.Seal(a)
		if err != nil || b.Unseal(&v, m, sampleFrom) != nil {
			t.Fatal("does not open")
		}
		for more, err := v.Next(); more; more, err = v.Next() {
			if err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations a bundle", n)
	}
}

// FuzzBundle gives any plaintext to the parser, behind a right seal.
func FuzzBundle(f *testing.F) {
	ping := append(appendInner(nil, CmdPing, false, 1), 0x90)
	f.Add(bundleText(ping, ping))
	f.Add(bundleText(ping, ping, ping[:9]))
	f.Add(ping)
	a, b := newSessions(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > MaxDatagram-sealedHead-tagSize {
			return
		}
		var v Verified
		if b.Unseal(&v, sealText(t, a, TypeBundle, text), sampleFrom) != nil {
			return
		}
		var again []byte
		n := 0
		for more, err := v.Next(); more; more, err = v.Next() {
			if n++; err == nil {
				again = append(again, bundleText(append(appendInner(nil, v.Command, v.Reply, v.MessageID), v.Payload...))...)
			} else {
				again = append(again, text[len(again):len(again)+bundleEach+int(binary.BigEndian.Uint16(text[len(again):]))]...)
			}
		}
		if n < 2 || !bytes.Equal(again, text) {
			t.Errorf("%x read as %d messages, %x", text, n, again)
		}
	})
}

func BenchmarkBundle(b *testing.B) {
	for _, n := range []int{1, 8, 40} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			x, y := newSessions(b)
			var (
				p    Packing
				v    Verified
				room = make([]byte, 0, PackingRoom)
				body = make([]byte, 18)
			)
			b.ReportAllocs()
			for b.Loop() {
				p.Begin(room)
				for range n {
					p.Add(CmdPong, true, 1, body)
				}
				m, err := p.Seal(x)
				if err != nil || y.Unseal(&v, m, sampleFrom) != nil {
					b.Fatal("does not open")
				}
				for more, _ := v.Next(); more; more, _ = v.Next() {
				}
			}
		})
	}
}
