package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func samplePunch(t testing.TB) (requester, tunnelNode *PunchEnd) {
	token, u, n := Hash(pattern(1, 32)), sampleID(7, 2), sampleID(7, 3)
	requester, err := NewPunchEnd(token, u, n, true)
	must(t, err)
	tunnelNode, err = NewPunchEnd(token, u, n, false)
	must(t, err)
	return requester, tunnelNode
}

func TestPunch(t *testing.T) {
	u, n := samplePunch(t)
	want := PunchPacket{0x1122334455667788, 0x99aabbccddeeff00, true, true}
	there, back := u.Append(nil, want), n.Append(nil, want)
	golden(t, "punch", append(bytes.Clone(there), back...))
	if len(there) != PunchSize || PunchSize > 64 {
		t.Errorf("%d bytes", len(there))
	}
	for _, p := range []PunchPacket{want, {Serial: 1}, {Echo: 1}, {Ask: true}, {Chosen: true}} {
		if got, err := n.Parse(u.Append(nil, p)); err != nil || got != p {
			t.Errorf("requester's %+v read as %+v, %v", p, got, err)
		}
		if got, err := u.Parse(n.Append(nil, p)); err != nil || got != p {
			t.Errorf("tunnel-node's %+v read as %+v, %v", p, got, err)
		}
	}
	if pair, err := PunchPair(there); err != nil || pair != n.Pair() || pair == u.Pair() {
		t.Errorf("pair %x, %v", pair, err)
	}
	if _, err := u.Parse(there); !errors.Is(err, ErrMAC) {
		t.Errorf("own packet thrown back: %v", err)
	}
	for i := range there {
		if _, err := n.Parse(there[:i]); err == nil {
			t.Errorf("%d of %d bytes taken", i, len(there))
		}
		for bit := range 8 {
			b := bytes.Clone(there)
			b[i] ^= 1 << bit
			if p, err := n.Parse(b); err == nil {
				t.Errorf("bit %d of byte %d flipped, and read as %+v", bit, i, p)
			}
		}
	}
	if _, err := n.Parse(append(there, 0)); err == nil {
		t.Error("a byte too many taken")
	}
	there[1] = 2
	if _, err := PunchPair(there); !errors.Is(err, ErrVersion) {
		t.Errorf("version 2: %v", err)
	}
}

func TestPunchKeysBelongToOneAttempt(t *testing.T) {
	u, _ := samplePunch(t)
	b := u.Append(nil, PunchPacket{Serial: 1})
	token, from, to := Hash(pattern(1, 32)), sampleID(7, 2), sampleID(7, 3)
	for name, end := range map[string]func() (*PunchEnd, error){
		"token":       func() (*PunchEnd, error) { return NewPunchEnd(Hash(pattern(2, 32)), from, to, false) },
		"requester":   func() (*PunchEnd, error) { return NewPunchEnd(token, sampleID(8, 2), to, false) },
		"tunnel-node": func() (*PunchEnd, error) { return NewPunchEnd(token, from, sampleID(7, 4), false) },
		"order":       func() (*PunchEnd, error) { return NewPunchEnd(token, to, from, false) },
	} {
		e, err := end()
		must(t, err)
		if _, err := e.Parse(b); !errors.Is(err, ErrMAC) {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestPunchEndHidesItsKeys(t *testing.T) {
	u, _ := samplePunch(t)
	for _, s := range []string{fmt.Sprint(u), fmt.Sprintf("%+v", u), fmt.Sprintf("%#v", u)} {
		if !strings.Contains(s, "redacted") || strings.Contains(s, fmt.Sprintf("%x", u.sendKey)) {
			t.Errorf("printed as %s", s)
		}
	}
}

func FuzzPunch(f *testing.F) {
	u, n := samplePunch(f)
	f.Add(u.Append(nil, PunchPacket{Serial: 1, Ask: true}))
	f.Add(n.Append(nil, PunchPacket{Serial: 1, Echo: 2, Chosen: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, pairErr := PunchPair(b)
		p, err := n.Parse(b)
		if err == nil && (pairErr != nil || !bytes.Equal(u.Append(nil, p), b)) {
			t.Errorf("%x read as %+v", b, p)
		}
	})
}
