package dht

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"culvert/partition"
	"culvert/protocol"
)

const (
	// repairWindow is how many questions one repair has in the air.
	repairWindow = 8
	// repairLeaf is how many pairs a differing part may have to be fetched instead of cut further.
	repairLeaf  = 64
	repairTries = 3
	// streamLeast is how many more pairs than here a part has that is worth a stream, streamMost how many one request may bring.
	streamLeast = 128
	streamMost  = 4 << 10
	// streamBreaks is after how many breaks a repair goes on by datagrams.
	streamBreaks = 3
)

// Digester is the part of a Store that a repair compares.
type Digester interface {
	Digest(t protocol.Table, from, to uint64) protocol.DigestPart
}

// Repair brings one peer's records of a shared range here, as a step machine: digests by 16 parts, the differing ones cut
// again until they are small, then pages. It only fetches; what the peer lacks it fetches itself within its own interval.
// Tables come one after another, what others rest on first.
type Repair struct {
	peer   protocol.Peer
	local  Digester
	shared []partition.Range
	end    RepairEnd

	table  int
	todo   []repairTask
	bulk   []repairTask // to be fetched by a stream, one at a time
	stream bool         // there is one to be had
	onAir  bool         // it is in use
	breaks int
	asked  map[int]repairTask
	next   int
	fresh  int // records fetched
	ended  bool
	begun  bool
	tables []protocol.Table
}

// RepairEnd is what became of a repair.
type RepairEnd struct {
	Epoch uint64   // of the oldest map by which the peer has answered
	Held  []uint64 // of each shared range, how many (key, record) pairs the peer has
	Err   error    // why it ended early; ErrUnreachable for silence
	Local bool     // Err is this node's own: its store would not take records
}

// heldPage is a page whose records wait for the certificates that they rest on, which may belong to another range.
type heldPage struct {
	records [][]byte
	waiting int
}

type repairTask struct {
	owner    protocol.ID // whose certificate is asked for, for held
	held     *heldPage
	page     bool
	bulk     bool
	count    uint64 // of the peer's pairs, for bulk
	whole    int    // one more than the index of the shared range that this is all of
	from, to uint64
	after    protocol.ID
	pages    uint64 // how many more may follow
	tries    int
}

// NewRepair compares local with peer over the ranges that the peer serves and this node keeps; tables that are everywhere are
// compared whole.
func NewRepair(peer protocol.Peer, local Digester, shared ...partition.Range) *Repair {
	return &Repair{
		peer: peer, local: local, shared: shared, end: RepairEnd{Epoch: math.MaxUint64, Held: make([]uint64, len(shared))}, asked: make(map[int]repairTask),
		tables: []protocol.Table{
			protocol.TableOperatorNode, protocol.TableRevocation, protocol.TableSuperNode, protocol.TableMapHead,
			protocol.TableNode, protocol.TableEndDevice, protocol.TableNodeInfo,
		},
	}
}

// Stream says that the driver carries out ActFetch.
func (r *Repair) Stream() { r.stream = true }

// NewTableRepair is NewRepair for some tables only.
func NewTableRepair(peer protocol.Peer, local Digester, shared partition.Range, tables ...protocol.Table) *Repair {
	r := NewRepair(peer, local, shared)
	r.tables = tables
	return r
}

// Done reports whether the repair has ended.
func (r *Repair) Done() bool { return r.ended }

// Result is how many records came, and why it ended early.
func (r *Repair) Result() (records int, err error) { return r.fresh, r.end.Err }

// End is what the Replicator wants to know.
func (r *Repair) End() RepairEnd { return r.end }

// Step takes one event: EventTick to begin, then an answer or failure for each ask.
func (r *Repair) Step(e Event) []Action {
	if r.ended {
		return nil
	}
	var acts []Action
	t, ok := r.asked[e.Tag]
	switch {
	case e.Kind == EventTick && !r.begun:
		r.begun = true
		r.startTable()
	case e.Kind == EventFailed && ok && t.bulk:
		delete(r.asked, e.Tag)
		r.broken(t)
	case e.Kind == EventFailed && ok:
		delete(r.asked, e.Tag)
		if t.tries++; t.tries >= repairTries {
			return r.stop(fmt.Errorf("%w: %s during repair", ErrUnreachable, r.peer.ID.Short()))
		}
		r.todo = append(r.todo, t)
	case e.Kind == EventAnswer && ok:
		delete(r.asked, e.Tag)
		var err error
		switch {
		case t.bulk:
			r.onAir = false // its records have been taken in
			r.fresh += int(t.count)
		case t.held != nil:
			acts = t.held.took(e)
		case t.page:
			acts, err = r.tookPage(t, e)
		default:
			err = r.tookDigests(t, e)
		}
		if err != nil {
			return append(acts, r.stop(err)...)
		}
	default:
		return nil
	}
	for len(r.todo) == 0 && len(r.bulk) == 0 && len(r.asked) == 0 {
		if r.table++; r.table == len(r.tables) {
			return append(acts, r.stop(nil)...)
		}
		r.startTable()
	}
	return append(acts, r.fill()...)
}

func (r *Repair) stop(err error) []Action {
	r.ended, r.end.Err = true, err
	return nil
}

func (r *Repair) startTable() {
	if r.tables[r.table].Everywhere() {
		g := partition.Whole()
		r.todo = append(r.todo, repairTask{from: g.From, to: g.To})
		return
	}
	for i, g := range r.shared {
		if g.Valid() {
			r.todo = append(r.todo, repairTask{from: g.From, to: g.To, whole: i + 1})
		}
	}
}

// broken asks for a part again after its stream broke; after a few breaks it goes on by datagrams, and compares anew what of
// the parts has come.
func (r *Repair) broken(t repairTask) {
	r.onAir = false
	r.bulk = append(r.bulk, t)
	if r.breaks++; r.breaks <= streamBreaks {
		return
	}
	r.stream = false
	for _, p := range r.bulk {
		r.todo = append(r.todo, repairTask{from: p.from, to: p.to})
	}
	r.bulk = nil
}

func (r *Repair) fill() []Action {
	var acts []Action
	tb := r.tables[r.table]
	if n := len(r.bulk); n > 0 && !r.onAir {
		t := r.bulk[n-1]
		r.bulk, r.onAir = r.bulk[:n-1], true
		acts = append(acts, Action{
			Kind: ActFetch, Tag: r.next, Peer: r.peer, Payload: protocol.Repair{Table: tb, From: t.from, To: t.to}, Most: 4*t.count + streamLeast,
		})
		r.asked[r.next] = t
		r.next++
	}
	for len(r.asked) < repairWindow && len(r.todo) > 0 {
		t := r.todo[len(r.todo)-1]
		r.todo = r.todo[:len(r.todo)-1]
		var p protocol.Payload = protocol.Digest{Table: tb, From: t.from, To: t.to}
		switch {
		case t.held != nil:
			p = protocol.GetNode{ID: t.owner}
		case t.page:
			p = protocol.Repair{Table: tb, From: t.from, To: t.to, After: t.after}
		}
		acts = append(acts, Action{Kind: ActAsk, Tag: r.next, Peer: r.peer, Payload: p})
		r.asked[r.next] = t
		r.next++
	}
	return acts
}

var errRepairAnswer = errors.New("dht: unsound answer to a repair")

func (r *Repair) tookDigests(t repairTask, e Event) error {
	d, err := protocol.ParsePayload[protocol.Digests](e.Payload)
	if err != nil || e.Command != protocol.CmdDigests || len(d.Parts) == 0 {
		return errRepairAnswer
	}
	r.end.Epoch = min(r.end.Epoch, d.Epoch)
	from := t.from
	for i, p := range d.Parts { // exactly the range asked for, so that each cut makes it smaller
		last := i == len(d.Parts)-1
		if p.From != from || p.From > p.To || p.To > t.to || last != (p.To == t.to) || len(d.Parts) == 1 && t.from != t.to {
			return errRepairAnswer
		}
		from = p.To + 1
		if t.whole > 0 {
			r.end.Held[t.whole-1] += p.Count
		}
		here := r.local.Digest(r.tables[r.table], p.From, p.To)
		if p.Count == 0 || p == here {
			continue
		}
		part := repairTask{from: p.From, to: p.To}
		if r.stream && p.Count > here.Count && p.Count-here.Count > streamLeast && (p.Count <= streamMost || p.From == p.To) {
			part.bulk, part.count = true, p.Count
			r.bulk = append(r.bulk, part)
			continue
		}
		if p.Count <= repairLeaf || p.To-p.From < digestParts {
			part.page, part.pages = true, min(p.Count, 1<<20)+maxSelects
		}
		r.todo = append(r.todo, part)
	}
	return nil
}

func (r *Repair) tookPage(t repairTask, e Event) ([]Action, error) {
	l, err := protocol.ParseRecordList(e.Payload)
	if err != nil || e.Command != protocol.CmdRepaired {
		return nil, errRepairAnswer
	}
	if !l.Next.IsZero() {
		if l.Next.Compare(t.after) <= 0 || t.pages == 0 {
			return nil, errRepairAnswer
		}
		t.after, t.tries = l.Next, 0
		t.pages--
		r.todo = append(r.todo, t)
	}
	if len(l.Records) == 0 {
		return nil, nil
	}
	r.fresh += len(l.Records)
	if r.tables[r.table] == protocol.TableNodeInfo {
		if h := r.hold(l.Records); h != nil {
			return nil, nil
		}
	}
	return []Action{{Kind: ActApply, Records: l.Records}}, nil
}

// hold asks for the certificates that are missing here; nil where none is.
func (r *Repair) hold(records [][]byte) *heldPage {
	h := &heldPage{}
	for _, raw := range records {
		rec, err := protocol.ParseRecord(raw)
		if err != nil {
			continue // Apply counts it
		}
		h.records = append(h.records, bytes.Clone(raw))
		if at := rec.Owner.Position(); r.local.Digest(protocol.TableNode, at, at).Count == 0 {
			h.waiting++
			r.todo = append(r.todo, repairTask{owner: rec.Owner, held: h})
		}
	}
	if h.waiting == 0 {
		return nil
	}
	return h
}

// took adds a certificate. Without it the record that rests on it is refused, and fetched again another time.
func (h *heldPage) took(e Event) []Action {
	if n, err := protocol.ParseNode(e.Payload); err == nil && e.Command == protocol.CmdNode && len(n.Record) > 0 {
		h.records = append(h.records, bytes.Clone(n.Record))
	}
	if h.waiting--; h.waiting > 0 {
		return nil
	}
	return []Action{{Kind: ActApply, Records: h.records}}
}

func digestsOf(st Digester, d protocol.Digest) []protocol.DigestPart {
	var parts []protocol.DigestPart
	for _, g := range (partition.Range{From: d.From, To: d.To}).Split(digestParts) {
		parts = append(parts, st.Digest(d.Table, g.From, g.To))
	}
	return parts
}
