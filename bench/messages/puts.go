package messages

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"culvert/bench/world"
	"culvert/protocol"
)

// putMost is more Puts a second than are answered.
const putMost = 40_000

// elsewhere is where nobody looks.
const elsewhere = 1 << 30

// puts stores NodeInfos of owners in turn, each owner's of rising sequence.
type puts struct {
	w       *world.World
	members []*world.Member
	signed  [][]byte // from number first on
	first   int
}

// sign makes sure that those from asked on are there, n of them.
func (q *puts) sign(asked, n int) error {
	q.signed = q.signed[min(asked-q.first, len(q.signed)):]
	q.first = asked
	from := len(q.signed)
	if from >= n {
		return nil
	}
	q.signed = append(q.signed, make([][]byte, n-from)...)
	now := time.Now()
	return parallel(n-from, func(i int) (err error) {
		k := asked + from + i
		m := q.members[k%len(q.members)]
		r := rand.NewChaCha8(sha256.Sum256(fmt.Appendf(nil, "culvert benchmark put %d", k)))
		q.signed[from+i], err = q.w.InfoOf(m.Keys, m.Cert.ID, elsewhere+k%len(q.members), q.sequence(k), now, r)
		return err
	})
}

func (q *puts) payload(b []byte, n int) (protocol.Command, []byte) {
	if n-q.first >= len(q.signed) {
		if err := q.sign(n, putWindow); err != nil {
			return protocol.CmdPut, nil // refused, which ends the run
		}
	}
	m := q.members[n%len(q.members)]
	return protocol.CmdPut, protocol.Put{Key: m.Cert.ID, Record: q.signed[n-q.first]}.AppendPayload(b)
}

func (q *puts) check(v *protocol.Verified, n int) error { return acknowledged(v, n, q.sequence(n)) }

// acknowledged reports what is wrong with the answer to Put n. That it was overtaken by its owner's next one is not: the window
// may turn round while one is late.
func acknowledged(v *protocol.Verified, n int, sequence uint64) error {
	st, err := protocol.ParseStored(v.Payload)
	if err != nil || v.Command != protocol.CmdStored {
		return wrong(v, err)
	}
	overtaken := st.Status == protocol.StatusSuperseded && st.Sequence > sequence
	if st.Status != protocol.StatusOK && !overtaken {
		return fmt.Errorf("put %d: status %d, sequence %d held", n, st.Status, st.Sequence)
	}
	return nil
}

// sequence is that of Put n: each owner's rises from its certificate on.
func (q *puts) sequence(n int) uint64 { return uint64(2 + n/len(q.members)) }
