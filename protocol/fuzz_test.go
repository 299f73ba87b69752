package protocol

import (
	"bytes"
	"reflect"
	"runtime"
	"testing"
)

func FuzzRecord(f *testing.F) {
	for _, r := range samples(f) {
		f.Add(r.Raw())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Raw(), b) || len(r.Keys()) != 1+len(r.Lookups) || r.Expires.Before(r.Issued) {
			t.Errorf("read as %+v", r)
		}
		for _, v := range []any{
			new(NodeValue), new(NodeInfoValue), new(SuperNodeValue), new(OperatorNodeValue), new(EndDeviceValue), new(RevocationValue),
			new(MapHeadValue),
		} {
			_ = Unmarshal(r.Value, v)
		}
	})
}

// FuzzPayload gives each text to each parser. What one reads it must write again, and read back the same; and where a message
// has a parser of its own, the library reads what that reads.
func FuzzPayload(f *testing.F) {
	for _, m := range messages(f) {
		b, err := AppendPayload(nil, m)
		must(f, err)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for c := Command(1); c < CmdEnd; c++ {
			m, err := parsers[c](b)
			if err != nil {
				continue
			}
			lib := reflect.New(reflect.TypeOf(m))
			if err := Unmarshal(b, lib.Interface()); err != nil {
				t.Fatalf("%s: own parser reads what the library refuses: %v", c, err)
			}
			again, err := AppendPayload(nil, m)
			if err != nil {
				t.Fatalf("%s: %v", c, err)
			}
			back, err := parsers[c](again)
			if err != nil || !reflect.DeepEqual(normal(back), normal(m)) {
				t.Fatalf("%s: wrote %x, read %+v, want %+v, %v", c, again, back, m, err)
			}
		}
	})
}

// normal writes a message, so that nil and empty lists compare equal.
func normal(m Payload) string {
	b, _ := AppendPayload(nil, m)
	return string(b)
}

func FuzzEnvelope(f *testing.F) {
	p := newPair(f)
	for _, m := range messages(f) {
		f.Add(p.signed(f, p.out(m)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnvelope(b)
		if err != nil {
			return
		}
		e.CheckMAC1(NewMAC1Key(e.Receiver))
		e.Transcript()
		_, _ = e.ReadablePayload()
		to := p.to
		to.ID = e.Receiver
		cert := *p.aCert
		cert.ID = e.Sender
		_, _ = e.payload(&to) // behind the signature, too
		var v Verified
		if e.Open(&v, sampleTime, &to, &cert) == nil && v.ReplyLimit > MaxDatagram {
			t.Errorf("limit %d", v.ReplyLimit)
		}
	})
}

func FuzzSession(f *testing.F) {
	a, b := newSessions(f)
	for range 4 {
		m, err := a.AppendSealed(nil, CmdPing, false, 1, []byte{0x90})
		must(f, err)
		f.Add(m)
	}
	f.Fuzz(func(t *testing.T, m []byte) {
		_, _, _ = ParseSealed(m)
		var v Verified
		_ = b.Open(&v, bytes.Clone(m), sampleFrom)
		_, _ = ParseOpenSession(m)
		_, _ = ParseSessionOpened(m)
	})
}

func FuzzCookie(f *testing.F) {
	p := newPair(f)
	e, err := ParseEnvelope(p.signed(f, p.out(Ping{})))
	must(f, err)
	b, err := NewCookieJar(sampleRand()).AppendCookie(nil, sampleTime, sampleFrom, &e, p.b.Signing.Public())
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, idErr := CookieMessageID(b)
		if _, err := OpenCookie(b, p.b.Signing.Public(), e.MAC1()); err == nil && idErr != nil {
			t.Error("opened without a message ID")
		}
	})
}

func FuzzHint(f *testing.F) {
	f.Add(AppendHint(nil, 1, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		if i, c, err := ParseHint(b); err == nil && !bytes.Equal(AppendHint(nil, i, c), b) {
			t.Errorf("%x read as %d, %d", b, i, c)
		}
	})
}

// TestAllocationIsBounded feeds the decoders texts made to ask for much: none gets four times its datagram.
func TestAllocationIsBounded(t *testing.T) {
	bombs := map[string][]byte{
		"array of 2^32": {0xdd, 0xff, 0xff, 0xff, 0xff}, "bytes of 2^32": {0xc6, 0xff, 0xff, 0xff, 0xff},
		"array of 65535": {0x91, 0xdc, 0xff, 0xff}, "map": {0xdf, 0xff, 0xff, 0xff, 0xff}, "ext": {0xc9, 0xff, 0xff, 0xff, 0xff, 1},
		"deep": bytes.Repeat([]byte{0x91}, 1000), "64 nils": append([]byte{0x92, 0xdc, 0, 64}, bytes.Repeat([]byte{0xc0}, 64)...),
		"64 empty arrays": append([]byte{0x92, 0xdc, 0, 64}, bytes.Repeat([]byte{0x90}, 64)...),
		"64 empty bytes":  append([]byte{0x92, 0xdc, 0, 64}, append(bytes.Repeat([]byte{0xc4, 0}, 64), 0xc0)...),
	}
	part := []byte{0x95, 1, 1, 1, 1, 1}
	bombs["64 parts"] = append([]byte{0x91, 0xdc, 0, 64}, bytes.Repeat(part, 64)...)
	cand := []byte{0x94, 1, 6, 0xc4, 0, 1}
	bombs["64 candidates"] = append(append([]byte{0x93, 0, 0xdc, 0, 64}, bytes.Repeat(cand, 64)...), append([]byte{0xc4, 32}, make([]byte, 32)...)...)
	for _, m := range messages(t) {
		b, err := AppendPayload(nil, m)
		must(t, err)
		bombs[m.Command().String()] = b
	}
	for name, b := range bombs {
		datagram := uint64(max(len(b)+signedOverhead, CmdPing.SignedSize()))
		for c := Command(1); c < CmdEnd; c++ {
			_, _ = parsers[c](b) // fills the library's caches
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for range 20 {
				_, _ = parsers[c](b)
			}
			runtime.ReadMemStats(&after)
			if got := (after.TotalAlloc - before.TotalAlloc) / 20; got > 4*datagram {
				t.Errorf("%s as %s: %d bytes for a datagram of %d", name, c, got, datagram)
			}
		}
	}
}

func FuzzReachProbe(f *testing.F) {
	f.Add(AppendReachProbe(nil, [16]byte{1}))
	f.Add([]byte{TypeProbe, wireVersion, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if nonce, err := ParseReachProbe(b); err == nil && !bytes.Equal(AppendReachProbe(nil, nonce), b) {
			t.Errorf("%x read as %x", b, nonce)
		}
	})
}
