package nat

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"

	"github.com/pion/stun/v3"
)

var (
	asker4 = netip.MustParseAddrPort("203.0.113.7:40001")
	asker6 = netip.MustParseAddrPort("[2001:db8::7]:40001")
	origin = Responder{netip.MustParseAddrPort("198.51.100.1:7700"), netip.MustParseAddrPort("[2001:db8::1]:7700")}
)

func build(t testing.TB, s ...stun.Setter) []byte {
	t.Helper()
	m, err := stun.Build(s...)
	if err != nil {
		t.Fatal(err)
	}
	return m.Raw
}

func TestRequestGolden(t *testing.T) {
	want := "0001004c2112a442" + "0102030405060708090a0b0c" + "00260040" + hex.EncodeToString(make([]byte, 64)) + "80280004"
	b := Request(Transaction{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
	if len(b) != RequestSize || hex.EncodeToString(b[:len(b)-4]) != want {
		t.Errorf("%x", b)
	}
	if IsResponse(b) {
		t.Error("a question is taken for an answer")
	}
}

func TestAnswer(t *testing.T) {
	id := Transaction{7}
	for _, from := range []netip.AddrPort{asker4, asker6, netip.MustParseAddrPort("[::ffff:203.0.113.7]:40001")} {
		req := Request(id)
		a, err := origin.Answer(req, from)
		if err != nil || len(a) > len(req) || !IsResponse(a) {
			t.Fatal(len(a), err)
		}
		r, err := ParseResponse(a)
		if err != nil || r.ID != id || r.Mapped != unmap(from) {
			t.Errorf("%+v, %v", r, err)
		}
		m := &stun.Message{Raw: a}
		if err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		var o stun.ResponseOrigin
		var s stun.Software
		if o.GetFrom(m) != nil || s.GetFrom(m) != nil || s.String() != software || stun.Fingerprint.Check(m) != nil || o.Port != 7700 {
			t.Errorf("%v", m)
		}
	}
	a, err := Responder{}.Answer(Request(id), asker4)
	if err != nil {
		t.Fatal(err)
	}
	if m := (&stun.Message{Raw: a}); m.Decode() != nil || m.Contains(stun.AttrResponseOrigin) {
		t.Error("an origin that is not known")
	}
}

// Whatever its length, no request has a longer answer, and the most useful attributes stay.
func TestAnswerIsNoLonger(t *testing.T) {
	for _, from := range []netip.AddrPort{asker4, asker6} {
		least := 32
		if from == asker6 {
			least = 44
		}
		for pad := -4; pad <= 80; pad += 4 {
			s := []stun.Setter{stun.TransactionID, stun.BindingRequest}
			if pad >= 0 {
				s = append(s, stun.RawAttribute{Type: stun.AttrPadding, Value: make([]byte, pad)})
			}
			req := build(t, s...)
			a, err := origin.Answer(req, from)
			if len(req) < least {
				if !errors.Is(err, ErrShort) || a != nil {
					t.Errorf("%d bytes from %v: %x, %v", len(req), from, a, err)
				}
				continue
			}
			if r, e := ParseResponse(a); err != nil || e != nil || len(a) > len(req) || r.Mapped != from {
				t.Errorf("%d bytes from %v: %d bytes, %+v, %v %v", len(req), from, len(a), r, err, e)
			}
		}
	}
}

// There is no answer to answers, indications, methods, questions that are not served, and what is not STUN.
func TestSilence(t *testing.T) {
	good := Request(Transaction{1})
	for name, c := range map[string]struct {
		b    []byte
		from netip.AddrPort
		want error
	}{
		"an answer":          {build(t, stun.TransactionID, stun.BindingSuccess), asker4, ErrKind},
		"an error":           {build(t, stun.TransactionID, stun.BindingError), asker4, ErrKind},
		"an indication":      {build(t, stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication)), asker4, ErrKind},
		"an allocation":      {build(t, stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)), asker4, ErrKind},
		"a change request":   {build(t, stun.TransactionID, stun.BindingRequest, stun.RawAttribute{Type: stun.AttrChangeRequest, Value: []byte{0, 0, 0, 6}}), asker4, ErrAttribute},
		"no message":         {[]byte("\x00\x01 and so on, for a while"), asker4, ErrMalformed},
		"nothing":            {nil, asker4, ErrMalformed},
		"something behind":   {append(bytes.Clone(good), 0), asker4, ErrMalformed},
		"a bad fingerprint":  {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), asker4, ErrMalformed},
		"from nowhere":       {good, netip.AddrPort{}, ErrMalformed},
		"from port 0":        {good, netip.AddrPortFrom(asker4.Addr(), 0), ErrMalformed},
		"from a group":       {good, netip.MustParseAddrPort("224.0.0.1:9"), ErrMalformed},
		"attributes beneath": {build(t, stun.TransactionID, stun.BindingRequest, stun.Fingerprint, stun.RawAttribute{Type: stun.AttrSoftware, Value: []byte("x")}), asker4, ErrMalformed},
	} {
		if a, err := origin.Answer(c.b, c.from); !errors.Is(err, c.want) || a != nil {
			t.Errorf("%s: %x, %v", name, a, err)
		}
	}
	for n := range good {
		if a, err := origin.Answer(good[:n], asker4); err == nil || a != nil {
			t.Errorf("%d bytes are answered", n)
		}
	}
}

func TestBadResponses(t *testing.T) {
	mapped := func(v []byte) []byte {
		return build(t, stun.TransactionID, stun.BindingSuccess, stun.RawAttribute{Type: stun.AttrXORMappedAddress, Value: v})
	}
	good, err := origin.Answer(Request(Transaction{1}), asker4)
	if err != nil {
		t.Fatal(err)
	}
	for n := range good {
		if _, err := ParseResponse(good[:n]); err == nil {
			t.Errorf("%d bytes are taken", n)
		}
	}
	for name, b := range map[string][]byte{
		"a question": Request(Transaction{1}), "no address": build(t, stun.TransactionID, stun.BindingSuccess),
		"an empty address": mapped(nil), "a short one": mapped([]byte{0, 1, 0, 0}), "a family of its own": mapped([]byte{0, 3, 1, 1, 1, 1, 1, 1}),
		"IPv6 cut off": mapped([]byte{0, 2, 1, 1, 1, 1, 1, 1}), "IPv4 too long": mapped(append([]byte{0, 1}, make([]byte, 18)...)),
		"port 0": mapped([]byte{0, 1, 0x21, 0x12, 1, 1, 1, 1}), "address 0": mapped([]byte{0, 1, 1, 1, 0x21, 0x12, 0xa4, 0x42}),
		"a group": mapped([]byte{0, 1, 1, 1, 0x21 ^ 224, 0x12, 0xa4, 0x42}),
	} {
		if r, err := ParseResponse(b); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func FuzzSTUN(f *testing.F) {
	req := Request(Transaction{1, 2, 3})
	a, err := origin.Answer(req, asker4)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(req)
	f.Add(a)
	f.Add(build(f, stun.TransactionID, stun.BindingRequest, stun.NewSoftware("x")))
	f.Add([]byte{0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x28, 0, 4, 1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseResponse(b); err == nil && (!r.Mapped.IsValid() || r.Mapped.Port() == 0) {
			t.Errorf("%+v", r)
		}
		before := bytes.Clone(b)
		for _, from := range []netip.AddrPort{asker4, asker6} {
			a, err := origin.Answer(b, from)
			if (err == nil) == (a == nil) || len(a) > len(b) {
				t.Fatalf("%d bytes answered by %d, %v", len(b), len(a), err)
			}
			if err != nil {
				continue
			}
			if r, err := ParseResponse(a); err != nil || r.Mapped != from {
				t.Errorf("own answer: %+v, %v", r, err)
			}
			if again, err := origin.Answer(a, from); err == nil {
				t.Errorf("an answer is answered: %x", again)
			}
		}
		if !bytes.Equal(before, b) {
			t.Error("the input was changed")
		}
		m := NewMeasure(Config{Servers: []Server{{V4: asker4}}, Own: []netip.Addr{asker4.Addr()}, Rand: reader(1)})
		m.Step(start, Event{})
		for s := range 5 {
			m.Step(start, Event{Kind: Received, Socket: s, From: asker4, Data: b})
		}
	})
}
