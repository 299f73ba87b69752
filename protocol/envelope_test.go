package protocol

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"culvert/protocol/key"
)

// pair is two nodes that know each other.
type pair struct {
	a, b   *key.Pair
	aID    ID
	bID    ID
	aCert  *CertifiedNode
	to     Receiver // b
	answer Receiver // a
}

func newPair(t testing.TB) *pair {
	p := &pair{a: sampleKeys(t, 3), b: sampleKeys(t, 4)}
	p.aID, p.bID = NodeID(7, p.a.Signing.Public()), NodeID(7, p.b.Signing.Public())
	p.aCert = &CertifiedNode{ID: p.aID, Signing: p.a.Signing.Public(), Sealing: p.a.Sealing.Public()}
	p.to = Receiver{ID: p.bID, Sealing: p.b.Sealing, Replay: NewReplay(100, 10000)}
	p.answer = Receiver{ID: p.aID, Sealing: p.a.Sealing, Replay: NewReplay(100, 10000)}
	return p
}

func (p *pair) out(m Payload) *Outgoing {
	b, err := AppendPayload(nil, m)
	if err != nil {
		panic(err)
	}
	return &Outgoing{
		Sender: p.aID, Receiver: p.bID, Sealing: p.b.Sealing.Public(), Command: m.Command(),
		Timestamp: sampleTime, MessageID: 0x1122334455667788, Payload: b,
	}
}

func (p *pair) signed(t testing.TB, m *Outgoing) []byte {
	t.Helper()
	b, err := AppendSigned(nil, m, p.a.Signing, sampleRand())
	must(t, err)
	return b
}

// open is what a receiver does with a datagram.
func (p *pair) open(b []byte, now time.Time) (*Verified, error) {
	e, err := ParseEnvelope(b)
	if err != nil {
		return nil, err
	}
	if !e.CheckMAC1(NewMAC1Key(p.bID)) {
		return nil, ErrMAC
	}
	v := new(Verified)
	return v, e.Open(v, now, &p.to, p.aCert)
}

func TestSignedMessages(t *testing.T) {
	for _, m := range messages(t) {
		t.Run(m.Command().String(), func(t *testing.T) {
			p := newPair(t)
			o := p.out(m)
			b := p.signed(t, o)
			if len(b) < o.Command.SignedSize() || len(b) > MaxDatagram {
				t.Fatalf("%d bytes", len(b))
			}
			switch o.Command {
			case CmdPing, CmdGetNode, CmdOpenSession, CmdPut:
				golden(t, "signed"+o.Command.String(), b)
			}
			v, err := p.open(bytes.Clone(b), sampleTime.Add(time.Second))
			must(t, err)
			if v.Sender != p.aID || v.Receiver != p.bID || v.Command != o.Command || v.Reply || v.MessageID != o.MessageID ||
				!v.Timestamp.Equal(sampleTime) || !bytes.Equal(v.Payload, o.Payload) || !bytes.Equal(v.Raw, b) || v.Session != 0 {
				t.Errorf("opened as %+v", v)
			}
			sealed := !bytes.Contains(b, o.Payload) || len(o.Payload) < 8
			if sealed == o.Command.Readable() {
				t.Errorf("payload sealed: %v", sealed)
			}
			if _, err := p.open(bytes.Clone(b), sampleTime); !errors.Is(err, ErrReplayed) {
				t.Errorf("second sight: %v", err)
			}
		})
	}
}

// TestRepliesFitRequests holds every answer of full length to the one-times rule.
func TestRepliesFitRequests(t *testing.T) {
	p := newPair(t)
	cands := make([]Candidate, 4)
	for i := range cands {
		cands[i] = Candidate{CandidateHost, TCP, addr6, 1 << 31}
	}
	answers := map[Command]Payload{
		CmdPing: Pong{1 << 49, addr6}, CmdPut: Stored{StatusQuota, 1 << 61, 1 << 61, 1 << 61},
		CmdTunnelRequest:     TunnelOpened{StatusTarget, cands, Hash(pattern(1, 32)), Punch{true, MappingSequential, 1<<16 - 1}},
		CmdTransferPartition: PartitionTransferred{1 << 61, true, 1 << 61, 1 << 61, make([]ID, MaxSilent)},
		CmdGetNode:           Node{make([]byte, MaxRecord)},
		CmdOpenSession:       SessionOpened{key.Public(pattern(1, 32)), 1 << 63, Hash(pattern(1, 32)), make([]byte, MaxRecord)},
	}
	for c, answer := range answers {
		o := p.out(answer)
		o.Reply = true
		reply := p.signed(t, o)
		o = &Outgoing{Sender: p.aID, Receiver: p.bID, Sealing: p.b.Sealing.Public(), Command: c, Timestamp: sampleTime, MessageID: uint64(c)}
		req := p.signed(t, o)
		if len(reply) > len(req) {
			t.Errorf("%s of %d bytes answers %s of %d", answer.Command(), len(reply), c, len(req))
		}
		v, err := p.open(req, sampleTime)
		must(t, err)
		if b, _ := AppendPayload(nil, answer); !v.Fits(answer.Command(), len(b)) {
			t.Errorf("%s: limit %d too small for %s", c, v.ReplyLimit, answer.Command())
		}
		for _, refusal := range []Payload{Busy{1 << 31}, WrongRange{1 << 61}} {
			if b, _ := AppendPayload(nil, refusal); !v.Fits(refusal.Command(), len(b)) {
				t.Errorf("%s cannot be refused by %s", c, refusal.Command())
			}
		}
	}
	hint := p.out(GetNode{p.aID})
	hint.Reply = true
	if n := len(p.signed(t, hint)); n > CmdPing.SignedSize() {
		t.Errorf("GetNode of %d bytes does not fit the smallest request", n)
	}
}

func TestSignedTampering(t *testing.T) {
	p := newPair(t)
	for _, m := range []Payload{Ping{}, GetNode{p.bID}} {
		b := p.signed(t, p.out(m))
		for i := range b[:len(b)-macSize] { // mac2 counts only under load
			c := bytes.Clone(b)
			c[i] ^= 0x40
			if v, err := p.open(c, sampleTime); err == nil {
				t.Fatalf("%s with byte %d changed opened as %+v", m.Command(), i, v)
			}
		}
		for i := range b {
			if _, err := p.open(b[:i:i], sampleTime); err == nil {
				t.Fatalf("%d of %d bytes opened", i, len(b))
			}
		}
		if _, err := p.open(append(bytes.Clone(b), 0), sampleTime); err == nil {
			t.Fatal("a byte too many taken")
		}
	}
}

// TestSignedBehindMAC changes bytes and makes mac1 fit again, as one who knows the receiver can: the signature tells.
func TestSignedBehindMAC(t *testing.T) {
	p := newPair(t)
	b := p.signed(t, p.out(Ping{}))
	k := NewMAC1Key(p.bID)
	for i := range b[:len(b)-2*macSize] {
		c := bytes.Clone(b)
		c[i] ^= 1
		m := k.Sum(c[:len(c)-2*macSize])
		copy(c[len(c)-2*macSize:], m[:])
		if v, err := p.open(c, sampleTime); err == nil {
			t.Fatalf("byte %d changed, opened as %+v", i, v)
		}
	}
}

func TestSignedStaleAndMisaddressed(t *testing.T) {
	p := newPair(t)
	b := p.signed(t, p.out(Ping{}))
	for _, d := range []time.Duration{MaxSkew + 1e6, -MaxSkew - 1e6, 24 * time.Hour, -24 * time.Hour, 87600 * time.Hour} {
		if _, err := p.open(b, sampleTime.Add(d)); !errors.Is(err, ErrStale) {
			t.Errorf("%v off: %v", d, err)
		}
	}
	e, err := ParseEnvelope(b)
	must(t, err)
	other := p.to
	other.ID = sampleID(7, 1)
	if err := e.Open(new(Verified), sampleTime, &other, p.aCert); !errors.Is(err, ErrCertificate) {
		t.Errorf("for another receiver: %v", err)
	}
	if err := e.Open(new(Verified), sampleTime, &p.to, &CertifiedNode{ID: p.bID, Signing: p.b.Signing.Public()}); !errors.Is(err, ErrCertificate) {
		t.Errorf("with another's certificate: %v", err)
	}
	if err := e.OpenAnswer(new(Verified), &p.to, p.aCert); err == nil {
		t.Error("a request opened as an answer")
	}
	for _, d := range []time.Duration{MaxSkew, -MaxSkew} {
		if _, err := newPair(t).open(b, sampleTime.Add(d)); err != nil {
			t.Errorf("%v off: %v", d, err)
		}
	}
}

func TestSignedOversized(t *testing.T) {
	p := newPair(t)
	o := p.out(Ping{})
	o.Payload = make([]byte, MaxSignedPayload)
	if b := p.signed(t, o); len(b) != MaxDatagram {
		t.Errorf("largest payload makes %d bytes", len(b))
	}
	o.Payload = make([]byte, MaxSignedPayload+1)
	if _, err := AppendSigned(nil, o, p.a.Signing, sampleRand()); !errors.Is(err, ErrOversized) {
		t.Errorf("a byte more: %v", err)
	}
	if _, err := ParseEnvelope(make([]byte, MaxDatagram+1)); !errors.Is(err, ErrOversized) {
		t.Errorf("datagram of 1,201 bytes: %v", err)
	}
}

// lowOrder are the X25519 points with which every agreement is zero.
var lowOrder = []key.Public{
	{}, {1},
	{0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00},
	{0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
}

// TestLowOrderEphemeral signs messages whose ephemeral key makes the shared secret zero: they do not open.
func TestLowOrderEphemeral(t *testing.T) {
	p := newPair(t)
	for _, low := range lowOrder {
		b := p.signed(t, p.out(Ping{}))
		b = b[:len(b)-signedTail]
		copy(b[signedHead:], low[:])
		b = append(b, p.a.Signing.Sign(append([]byte(messageContext), b...))...)
		k := NewMAC1Key(p.bID)
		m := k.Sum(b)
		b = append(append(b, m[:]...), make([]byte, macSize)...)
		if _, err := newPair(t).open(b, sampleTime); !errors.Is(err, ErrOpen) {
			t.Errorf("%x: %v", low[:4], err)
		}
		o := p.out(Ping{})
		o.Sealing = low
		if _, err := AppendSigned(nil, o, p.a.Signing, sampleRand()); err == nil {
			t.Errorf("sealed to %x", low[:4])
		}
	}
}

func TestPaddingIsZero(t *testing.T) {
	b := binary.BigEndian.AppendUint16(nil, 2)
	b = append(b, 7, 8, 0, 0, 0)
	if p, err := unpad(b); err != nil || !bytes.Equal(p, []byte{7, 8}) {
		t.Fatalf("%x, %v", p, err)
	}
	b[5] = 1
	if _, err := unpad(b); err == nil {
		t.Error("padding that says something was taken")
	}
	for _, short := range [][]byte{nil, {0}, {0, 1}, {0xff, 0xff, 1}} {
		if _, err := unpad(short); err == nil {
			t.Errorf("%x taken", short)
		}
	}
}
