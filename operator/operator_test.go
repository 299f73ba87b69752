package operator

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"culvert/operator/care"
	"culvert/operator/sqlite"
	"culvert/partition"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirEnv); dir != "" {
		crashChild(dir)
		return
	}
	goleak.VerifyTestMain(m)
}

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var admin = Actor{Name: "test"}

// patience is for how long what must come is waited for, on however slow a machine.
const patience = 2 * time.Minute

func newOperator(t *testing.T) (*Operator, *clock) {
	t.Helper()
	c := newClock()
	dir := filepath.Join(t.TempDir(), "op")
	if _, err := Init(t.Context(), dir, InitOptions{Name: "test", Advertise: "127.0.0.1:7743", Now: c.now}); err != nil {
		t.Fatal(err)
	}
	o, err := Open(t.Context(), dir, Options{Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o, c
}

func addDomain(t *testing.T, o *Operator, name string) protocol.Domain {
	t.Helper()
	v, err := o.AddDomain(t.Context(), admin, name)
	if err != nil {
		t.Fatal(err)
	}
	d, err := protocol.ParseDomain(v.Number)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func newToken(t *testing.T, o *Operator, s TokenSpec) enrol.Token {
	t.Helper()
	v, err := o.CreateToken(t.Context(), admin, s)
	if err != nil {
		t.Fatal(err)
	}
	k, err := enrol.ParseToken(v.Token)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newKeys(t *testing.T) *key.Pair {
	t.Helper()
	p, err := key.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// join enrols a new node and returns it with its keys.
func join(t *testing.T, o *Operator, domain, name string, groups ...string) (*protocol.CertifiedNode, *key.Pair) {
	t.Helper()
	keys := newKeys(t)
	res, err := o.Enroll(t.Context(), enrol.NewEnrollRequest(newToken(t, o, TokenSpec{Domain: domain, Groups: groups}), keys, name), "192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	return certified(t, o, res), keys
}

func certified(t *testing.T, o *Operator, res *enrol.EnrollResponse) *protocol.CertifiedNode {
	t.Helper()
	trust, err := res.Bundle.Trust(o.root, o.now())
	if err != nil {
		t.Fatal(err)
	}
	n, err := trust.CheckNode(res.Certificate, o.now())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// static gives the newest record of a table and owner, verified as a reader would.
func static(t *testing.T, o *Operator, table protocol.Table, owner protocol.ID) *protocol.Record {
	t.Helper()
	var found *protocol.Record
	_, _, trust := o.Identity()
	for raw, err := range o.StaticRecords(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := protocol.ParseRecord(raw)
		if err != nil {
			t.Fatal(err)
		}
		if r.Table == table && r.Owner == owner {
			if err := trust.CheckStatic(r, o.now()); err != nil && table != protocol.TableOperatorNode {
				t.Fatal(err)
			}
			found = r
		}
	}
	return found
}

// fakeMesh records what is published.
type fakeMesh struct {
	mu        sync.Mutex
	records   map[protocol.Table]map[protocol.ID]*protocol.Record
	confirmed int
	alive     map[netip.AddrPort]bool
	places    map[protocol.ID][]protocol.Hash
	epochs    []uint64
	published chan struct{}
	lags      map[protocol.ID]bool          // who says nothing to the operator's questions
	lost      map[protocol.ID][]protocol.ID // whom each says to have lost
	silent    bool                          // nobody answers Gather
	unheard   func(times int)               // is told so
	held      map[protocol.Table][][]byte   // beside what was published
	gathered  int
}

var _ Mesh = (*fakeMesh)(nil)

func newMesh() *fakeMesh {
	return &fakeMesh{records: make(map[protocol.Table]map[protocol.ID]*protocol.Record), confirmed: 9, alive: make(map[netip.AddrPort]bool),
		places: make(map[protocol.ID][]protocol.Hash), lags: make(map[protocol.ID]bool), lost: make(map[protocol.ID][]protocol.ID), published: make(chan struct{}, 1)}
}

var errSilent = errors.New("no answer")

func (m *fakeMesh) Publish(_ context.Context, raw []byte) (int, error) {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() {
		select {
		case m.published <- struct{}{}:
		default:
		}
	}()
	if m.confirmed == 0 {
		return 0, errSilent
	}
	if m.records[r.Table] == nil {
		m.records[r.Table] = make(map[protocol.ID]*protocol.Record)
	}
	if old := m.records[r.Table][r.Owner]; old != nil && old.Conflicts(r) {
		return 0, errors.New("conflicting records of one version")
	}
	m.records[r.Table][r.Owner] = r
	return m.confirmed, nil
}

func (m *fakeMesh) Probe(_ context.Context, _ protocol.Peer, addr netip.AddrPort) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.alive[addr] {
		return errSilent
	}
	return nil
}

// Ask answers for super-nodes that do what they should at once.
func (m *fakeMesh) Ask(_ context.Context, to protocol.Peer, p protocol.Payload) (*protocol.Verified, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !to.Addr.IsValid() && to.ID.Domain() != protocol.OperatorDomain || m.lags[to.ID] {
		return nil, errSilent
	}
	var answer protocol.Payload
	switch q := p.(type) {
	case protocol.TransferPartition:
		answer = protocol.PartitionTransferred{Epoch: q.Epoch, Filled: true, Silent: m.lost[to.ID]}
	case protocol.Digest:
		d := protocol.Digests{Epoch: 1 << 60}
		for _, g := range (partition.Range{From: q.From, To: q.To}).Split(16) {
			d.Parts = append(d.Parts, protocol.DigestPart{From: g.From, To: g.To})
		}
		answer = d
	}
	b, err := protocol.AppendPayload(nil, answer)
	return protocol.Local(&protocol.CertifiedNode{ID: to.ID}, to.ID, answer.Command(), b, time.Time{}), err
}

// AskAs answers nothing: what spies see is the audit's own test.
func (m *fakeMesh) AskAs(context.Context, *key.Pair, []byte, protocol.Peer, protocol.Payload) (*protocol.Verified, error) {
	return nil, errSilent
}

// handAllOver runs hand-overs until none is under way.
func handAllOver(t *testing.T, o *Operator, c *clock, mesh Mesh) {
	t.Helper()
	for range 200 {
		o.handOver.tick(t.Context(), mesh, c.now(), func(f func()) { f() })
		c.add(care.HandOverLast)
		if m := worldMap(t, o); !slices.ContainsFunc(m.Members(), func(x partition.Member) bool { return x.Fill.Valid() }) {
			return
		}
	}
	t.Fatalf("still handing over: %+v", worldMap(t, o).Members())
}

func (m *fakeMesh) NodeLocations(_ context.Context, id protocol.ID) ([]protocol.Hash, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.places[id], nil
}

func (m *fakeMesh) Notify(_ context.Context, epoch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epochs = append(m.epochs, epoch)
}

func (m *fakeMesh) Gather(context.Context, []protocol.Peer, bool) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gathered++
	if m.silent && m.unheard != nil {
		m.unheard(m.gathered)
	}
	return !m.silent, nil
}

func (m *fakeMesh) Held(_ context.Context, t protocol.Table) iter.Seq2[[]byte, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := slices.Clone(m.held[t])
	for _, r := range m.records[t] {
		l = append(l, r.Raw())
	}
	return func(yield func([]byte, error) bool) {
		for _, raw := range l {
			if !yield(raw, nil) {
				return
			}
		}
	}
}

func (m *fakeMesh) setAlive(addr netip.AddrPort, up bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.alive[addr] = up
}

func (m *fakeMesh) record(table protocol.Table, owner protocol.ID) *protocol.Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[table][owner]
}

// worldMap is the map as a node builds it from the bundle.
func worldMap(t *testing.T, o *Operator) *partition.Map {
	t.Helper()
	b, err := o.Bundle(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := b.Trust(o.root, o.now())
	if err != nil {
		t.Fatal(err)
	}
	m, err := partition.Build(b.MapHead, b.SuperNodes, func(r *protocol.Record) error { return trust.CheckStatic(r, o.now()) })
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func outbox(t *testing.T, o *Operator) (n int64) {
	t.Helper()
	if err := o.db.View(t.Context(), func(tx *sqlite.Tx) (err error) {
		n, err = tx.OutboxSize(0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return n
}
