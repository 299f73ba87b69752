package protocol

import (
	"bytes"
	"reflect"
	"testing"
)

// A clone has nothing of the one whose memory it was given, and shares none with another that is held.
func TestClonesAreApart(t *testing.T) {
	long := &Verified{
		Sender: NewID(7, Hash{1}), Payload: bytes.Repeat([]byte("long"), 100), Raw: []byte("signed"), MessageID: 1, Node: new(CertifiedNode),
		Scratch: new(Scratch), rest: []byte("more"), bundled: true,
	}
	short := &Verified{Receiver: NewID(8, Hash{2}), Command: CmdPing, Session: 5, Payload: []byte("short")}
	for range 100 {
		c := long.Clone()
		if c.Scratch != nil || c.rest != nil || c.Node != long.Node || !bytes.Equal(c.Payload, long.Payload) || !bytes.Equal(c.Raw, long.Raw) {
			t.Fatalf("clone %+v", c)
		}
		c.Recycle()
		a, b := short.Clone(), long.Clone()
		if !reflect.DeepEqual(a, short) {
			t.Fatalf("clone %+v of %+v", a, short)
		}
		clear(b.Payload)
		clear(b.Raw)
		if string(a.Payload) != "short" || string(long.Payload[:4]) != "long" || string(long.Raw) != "signed" {
			t.Fatal("a clone changed another's bytes")
		}
		b.Recycle()
		a.Recycle()
	}
}
