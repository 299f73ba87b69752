package enrol

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"culvert/protocol"
)

// While a domain key is replaced, writers and readers of both epochs understand each other: until the new key's time has come
// everybody reads everybody; from then on whoever has renewed reads records of either epoch, and who has not is told by the new
// ones that he must.
func TestTwoEpochsMeanwhile(t *testing.T) {
	const from = 1_000_000 // ms, when the second key begins to seal
	stale := Secrets{Domain: "00000007", Secret: fill(1), Keys: []DomainKey{{1, fill(2), 0}}}
	renewed := Secrets{Domain: "00000007", Secret: fill(1), Keys: []DomainKey{{2, fill(3), from}, {1, fill(2), 0}}}
	late := Secrets{Domain: "00000007", Secret: fill(1), Keys: []DomainKey{{2, fill(3), from}}} // joined after it
	at := func(s Secrets, ms int64) *protocol.DomainSecrets {
		t.Helper()
		p, err := s.At(time.UnixMilli(ms))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	owner := protocol.NewID(7, protocol.Hash{1})
	for _, c := range []struct {
		name           string
		writer, reader Secrets
		written, read  int64 // when
		readable       bool
	}{
		{"before, from one that has renewed to one that has not", renewed, stale, from - 1, from - 1, true},
		{"before, the other way", stale, renewed, from - 1, from - 1, true},
		{"an announcement from before, read after", stale, renewed, from - 1, from + 1, true},
		{"a writer that has not renewed yet, after", stale, renewed, from + 1, from + 1, true},
		{"after, between those that have renewed", renewed, renewed, from, from, true},
		{"after, to one that has not renewed", renewed, stale, from, from, false},
		{"a reader whose clock is behind", renewed, renewed, from, from - 60_000, true},
		{"the revoked node's key and a record from before", stale, stale, from - 1, from + 1, true},
		{"one that joined after it, and a record of the first epoch", stale, late, from + 1, from + 1, false},
	} {
		w := at(c.writer, c.written)
		sealed, err := w.SealValue(rand.Reader, protocol.TableNodeInfo, owner, []byte("here"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := at(c.reader, c.read).OpenValue(protocol.TableNodeInfo, owner, sealed)
		if c.readable && (err != nil || !bytes.Equal(got, []byte("here"))) || !c.readable && !errors.Is(err, protocol.ErrDomainKey) {
			t.Errorf("%s: %q, %v", c.name, got, err)
		}
		if a, b := at(c.writer, c.written), at(c.reader, c.read); a.LocationSecret() != b.LocationSecret() || a.NameKey("p") != b.NameKey("p") {
			t.Errorf("%s: they look under different keys", c.name)
		}
	}
}
