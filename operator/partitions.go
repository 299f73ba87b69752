package operator

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"time"

	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"

	"golang.org/x/sync/errgroup"
)

// PartitionsView is the partition map for people: who serves what, and what is moving.
type PartitionsView struct {
	Epoch  uint64      `json:"epoch"`
	Signed time.Time   `json:"signed"`
	Ranges []RangeView `json:"ranges"`
	Moving []MoveView  `json:"moving"`
}

// RangeView is one range.
type RangeView struct {
	From    string       `json:"from"` // first position, 16 hex digits: domain, then the first 4 bytes of the key's hash
	To      string       `json:"to"`   // last position
	Load    uint64       `json:"load"` // enrolled nodes and devices of its domains
	Equal   *bool        `json:"equal,omitempty"`
	Members []MemberView `json:"members"`
}

// MemberView is one member of a range.
type MemberView struct {
	ID       protocol.ID `json:"id"`
	Domain   string      `json:"domain"`
	State    MemberState `json:"state"`
	Answered bool        `json:"answered"`          // to the question for its digest
	Records  uint64      `json:"records,omitempty"` // (key, record) pairs in the range
	Digest   string      `json:"digest,omitempty"`  // over Node, NodeInfo and EndDevice, 32 hex digits
}

// MemberState says what a member does for a range.
type MemberState string

const (
	MemberServing  MemberState = "serving"
	MemberFilling  MemberState = "filling"
	MemberIsolated MemberState = "isolated"
)

// MoveView is one hand-over under way.
type MoveView struct {
	ID     protocol.ID        `json:"id"`
	Kind   partition.MoveKind `json:"kind"` // clone, merge or move
	From   string             `json:"from,omitempty"`
	To     string             `json:"to"`
	Filled bool               `json:"filled"`
	Have   uint64             `json:"have"`
	Want   uint64             `json:"want"`
}

const (
	digestWorkers = 64
	digestTimeout = 3 * time.Second
)

var digested = []protocol.Table{protocol.TableNode, protocol.TableNodeInfo, protocol.TableEndDevice}

// Partitions shows the map in force. Digests are asked for now, while the operator runs.
func (o *Operator) Partitions(ctx context.Context, by Actor) (v PartitionsView, err error) {
	if err := by.wantAll(); err != nil {
		return v, err
	}
	pmap, err := o.mapNow(ctx)
	if err != nil {
		return v, err
	}
	if pmap == nil {
		return PartitionsView{Ranges: []RangeView{}, Moving: []MoveView{}}, nil
	}
	var loads []partition.DomainLoad
	var names map[protocol.Domain]string
	if err := o.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		if names, err = domainNames(tx); err != nil {
			return err
		}
		loads, err = o.loads(tx)
		return err
	}); err != nil {
		return v, err
	}
	head, err := protocol.ParseRecord(pmap.Head())
	if err != nil {
		return v, err
	}
	v = PartitionsView{Epoch: pmap.Epoch(), Signed: head.Issued.UTC(), Ranges: []RangeView{}, Moving: []MoveView{}}
	for _, part := range pmap.Parts(partition.Whole()) {
		v.Ranges = append(v.Ranges, o.rangeView(pmap, part.Range, loads, names))
	}
	var ps []partition.Placement
	for _, m := range pmap.Members() {
		ps = append(ps, partition.Placement{Candidate: partition.Candidate{ID: m.Peer.ID}, Range: m.Range, Fill: m.Fill})
	}
	for _, m := range partition.Moving(ps) {
		_, _, p := o.watcher.state(m.ID)
		w := MoveView{ID: m.ID, Kind: m.Kind, To: m.To.String(), Filled: p.Filled, Have: p.Have, Want: p.Want}
		if m.From.Valid() {
			w.From = m.From.String()
		}
		v.Moving = append(v.Moving, w)
	}
	return v, o.askDigests(ctx, pmap, v.Ranges)
}

func (o *Operator) rangeView(pmap *partition.Map, r partition.Range, loads []partition.DomainLoad, names map[protocol.Domain]string) RangeView {
	v := RangeView{From: fmt.Sprintf("%016x", r.From), To: fmt.Sprintf("%016x", r.To), Members: []MemberView{}}
	for _, l := range loads {
		v.Load += weightIn(l, r)
	}
	for _, m := range pmap.Members() {
		w := MemberView{ID: m.Peer.ID, Domain: names[m.Domain], State: MemberServing}
		if m.Domain == protocol.OperatorDomain {
			w.Domain = "operator"
		}
		switch {
		case m.Range.Contains(r.From):
			if m.Isolated {
				w.State = MemberIsolated
			}
		case m.Fill.Contains(r.From):
			w.State = MemberFilling
		default:
			continue
		}
		v.Members = append(v.Members, w)
	}
	return v
}

// askDigests fills in what each member says that it holds, and whether those who serve a range agree.
func (o *Operator) askDigests(ctx context.Context, pmap *partition.Map, ranges []RangeView) error {
	o.state.Lock()
	mesh := o.mesh
	o.state.Unlock()
	if mesh == nil {
		return nil
	}
	var g errgroup.Group
	g.SetLimit(digestWorkers)
	for i, part := range pmap.Parts(partition.Whole()) {
		for j := range ranges[i].Members {
			w := &ranges[i].Members[j]
			mem, _ := pmap.Member(w.ID)
			g.Go(func() error {
				var sum [16]byte
				w.Records, sum, w.Answered = digest(ctx, mesh, mem.Peer, part.Range)
				if w.Answered {
					w.Digest = fmt.Sprintf("%x", sum)
				}
				return nil
			})
		}
	}
	err := g.Wait()
	for i := range ranges {
		equal, first := true, ""
		for _, w := range ranges[i].Members {
			if w.State != MemberServing {
				continue
			}
			if first == "" {
				first = w.Digest
			}
			equal = equal && w.Answered && w.Digest == first
		}
		ranges[i].Equal = &equal
	}
	return err
}

// digest is what one member holds of a range, of all tables that are served by range.
func digest(ctx context.Context, mesh Mesh, to protocol.Peer, r partition.Range) (records uint64, sum [16]byte, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, digestTimeout)
	defer cancel()
	var mu sync.Mutex
	var g errgroup.Group
	for _, t := range digested {
		g.Go(func() error {
			v, err := mesh.Ask(ctx, to, protocol.Digest{Table: t, From: r.From, To: r.To})
			if err != nil {
				return err
			}
			if v.Command != protocol.CmdDigests {
				return fmt.Errorf("answered %s", v.Command)
			}
			d, err := protocol.ParsePayload[protocol.Digests](v.Payload)
			mu.Lock()
			defer mu.Unlock()
			for _, p := range d.Parts {
				records += p.Count
				for i := range sum {
					sum[i] ^= p.Sum[i]
				}
			}
			return err
		})
	}
	return records, sum, g.Wait() == nil
}

// weightIn is how much of a domain lies in r: its keys are spread evenly.
func weightIn(l partition.DomainLoad, r partition.Range) uint64 {
	first := uint64(l.Domain) << 32
	both, ok := r.Intersect(partition.Range{From: first, To: first | 0xffffffff})
	if !ok {
		return 0
	}
	hi, lo := bits.Mul64(l.Weight, both.To-both.From+1)
	return hi<<32 | lo>>32
}
