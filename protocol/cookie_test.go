package protocol

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

func TestCookie(t *testing.T) {
	p := newPair(t)
	jar := NewCookieJar(sampleRand())
	from := netip.MustParseAddrPort("198.51.100.9:4000")
	e, err := ParseEnvelope(p.signed(t, p.out(Ping{})))
	must(t, err)
	self := p.b.Signing.Public()
	b, err := jar.AppendCookie(nil, sampleTime, from, &e, self)
	must(t, err)
	golden(t, "cookie", b)
	if len(b) != CookieSize || len(b) > MinSigned {
		t.Errorf("%d bytes", len(b))
	}
	id, err := CookieMessageID(b)
	if err != nil || id != e.MessageID {
		t.Errorf("answers %x, %v", id, err)
	}
	c, err := OpenCookie(b, self, e.MAC1())
	must(t, err)
	o := p.out(Ping{})
	o.Cookie = &c
	with, err := ParseEnvelope(p.signed(t, o))
	must(t, err)
	other := netip.MustParseAddrPort("198.51.100.9:4001")
	for _, tc := range []struct {
		name string
		e    *Envelope
		from netip.AddrPort
		at   time.Duration
		want bool
	}{
		{"without", &e, from, 0, false}, {"with", &with, from, 0, true}, {"from elsewhere", &with, other, 0, false},
		{"under the secret before", &with, from, CookieLife + time.Second, true},
		{"too late", &with, from, 2*CookieLife + 2*time.Second, false},
	} {
		if got := jar.Check(sampleTime.Add(tc.at), tc.from, tc.e); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
	for i := range b {
		x := bytes.Clone(b)
		x[i] ^= 1
		if _, err := OpenCookie(x, self, e.MAC1()); err == nil && (i < 4 || i >= 12) {
			t.Errorf("byte %d changed, opened", i)
		}
		if _, err := OpenCookie(b[:i], self, e.MAC1()); err == nil {
			t.Errorf("%d bytes opened", i)
		}
	}
	if _, err := OpenCookie(b, self, [16]byte{1}); err == nil {
		t.Error("a cookie for another message opened")
	}
}

// TestCookieJarAfterALongTime must not honour a secret that has rested longer than a cookie lives.
func TestCookieJarAfterALongTime(t *testing.T) {
	p := newPair(t)
	jar := NewCookieJar(sampleRand())
	e, err := ParseEnvelope(p.signed(t, p.out(Ping{})))
	must(t, err)
	b, err := jar.AppendCookie(nil, sampleTime, sampleFrom, &e, p.b.Signing.Public())
	must(t, err)
	c, err := OpenCookie(b, p.b.Signing.Public(), e.MAC1())
	must(t, err)
	o := p.out(Ping{})
	o.Cookie = &c
	with, err := ParseEnvelope(p.signed(t, o))
	must(t, err)
	for _, d := range []time.Duration{time.Hour, -time.Hour} {
		if jar.Check(sampleTime.Add(d), sampleFrom, &with) {
			t.Errorf("honoured %v later", d)
		}
	}
}

func TestHint(t *testing.T) {
	b := AppendHint(nil, 0x0102030405060708, 0x1112131415161718)
	golden(t, "hint", b)
	if len(b) != HintSize || len(b) > MinSealed {
		t.Errorf("%d bytes", len(b))
	}
	index, counter, err := ParseHint(b)
	if err != nil || index != 0x0102030405060708 || counter != 0x1112131415161718 {
		t.Errorf("%x %x %v", index, counter, err)
	}
	for i := range b {
		if _, _, err := ParseHint(b[:i]); err == nil {
			t.Errorf("%d bytes read", i)
		}
		x := bytes.Clone(b)
		x[i] ^= 1
		if _, _, err := ParseHint(x); err == nil && i < 4 {
			t.Errorf("byte %d changed, read", i)
		}
	}
}
