package operator

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"culvert/operator/care"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
)

const (
	// spiedDomains bounds in how many domains of one super-node's range there are spies.
	spiedDomains = 8
	// drawFrom bounds the records looked at for one question.
	drawFrom = 16
)

// pickStatic draws a record that the operator signed a while ago and that the super-node serves.
func (a *auditor) pickStatic(ctx context.Context, mem partition.Member) (r *protocol.Record, ok bool, err error) {
	now := a.o.now()
	err = a.o.db.View(ctx, func(tx *sqlite.Tx) error {
		ds, err := a.spied(tx, mem.Range, now)
		if err != nil || len(ds) == 0 {
			return err
		}
		d, err := tx.Domain(ds[rand.IntN(len(ds))])
		if err != nil || d.Banned {
			return err
		}
		start, in := drawStart(mem.Range, d.Number)
		if !in {
			return nil
		}
		table := [...]protocol.Table{protocol.TableNode, protocol.TableEndDevice}[rand.IntN(2)]
		for _, after := range []protocol.ID{start, firstOf(mem.Range, d.Number)} { // on to the end, and then from the beginning
			rows, err := tx.Records(table, after, now, drawFrom)
			if err != nil {
				return err
			}
			for _, row := range rows {
				rec, err := protocol.ParseRecord(row.Raw)
				if err != nil {
					return err
				}
				if rec.Owner.Domain() != d.Number || rec.Tombstone || !mem.Range.ContainsKey(rec.Owner) || now.Sub(rec.Issued) < care.Settled || rec.Expires.Sub(now) < lasting {
					continue
				}
				if n, err := tx.Node(rec.Owner); err == nil && !n.Revoked.IsZero() {
					continue
				}
				r, ok = rec, true
				return nil
			}
		}
		return nil
	})
	return r, ok, err
}

// spied are the domains in which a super-node that serves rng is asked: a few, which it cannot tell from the others. The list
// is read once a minute at most.
func (a *auditor) spied(tx *sqlite.Tx, rng partition.Range, now time.Time) ([]protocol.Domain, error) {
	a.drawn.Lock()
	defer a.drawn.Unlock()
	if a.domains == nil || now.Sub(a.listedAt).Abs() >= time.Minute {
		ds, err := tx.Domains()
		if err != nil {
			return nil, err
		}
		secret := sha256.Sum256(a.o.keys.Signing.Sign([]byte("culvert 1 spied")))
		rank := make(map[protocol.Domain][sha256.Size]byte, len(ds))
		a.domains = make([]protocol.Domain, 0, len(ds))
		for _, d := range ds {
			a.domains = append(a.domains, d.Number)
			rank[d.Number] = sha256.Sum256(binary.BigEndian.AppendUint32(secret[:], uint32(d.Number)))
		}
		slices.SortFunc(a.domains, func(x, y protocol.Domain) int {
			rx, ry := rank[x], rank[y]
			return bytes.Compare(rx[:], ry[:])
		})
		a.listedAt = now
	}
	var out []protocol.Domain
	for _, d := range a.domains {
		if _, in := rng.Intersect(domainSpan(d)); in {
			if out = append(out, d); len(out) == spiedDomains {
				break
			}
		}
	}
	return out, nil
}

func domainSpan(d protocol.Domain) partition.Range {
	from := uint64(d) << 32
	return partition.Range{From: from, To: from | 0xffffffff}
}

// drawStart is an ID by chance where keys of d lie in rng.
func drawStart(rng partition.Range, d protocol.Domain) (protocol.ID, bool) {
	both, ok := rng.Intersect(domainSpan(d))
	if !ok {
		return protocol.ID{}, false
	}
	h := randomHash()
	binary.BigEndian.PutUint32(h[:], uint32(both.From+rand.Uint64N(both.To-both.From+1)))
	return protocol.NewID(d, h), true
}

// firstOf is before every key of d in rng.
func firstOf(rng partition.Range, d protocol.Domain) protocol.ID {
	var h protocol.Hash
	binary.BigEndian.PutUint32(h[:], uint32(max(rng.From, domainSpan(d).From)))
	return protocol.NewID(d, h)
}

func randomHash() (h protocol.Hash) {
	for i := range h {
		h[i] = byte(rand.Uint32())
	}
	return h
}
