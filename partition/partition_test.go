package partition

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"

	"pgregory.net/rapid"
)

func pair(t require, seed uint64) *key.Pair {
	var b [64]byte
	s := sha256.Sum256(binary.BigEndian.AppendUint64(nil, seed))
	copy(b[:], s[:])
	copy(b[32:], s[:])
	p, err := key.Generate(&reader{b[:]})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type reader struct{ b []byte }

func (r *reader) Read(p []byte) (int, error) {
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

type require interface {
	Fatal(...any)
	Fatalf(string, ...any)
}

var now = time.UnixMilli(1_800_000_000_000)

type signer struct {
	t  require
	op *key.Pair
}

func (s signer) sign(tb protocol.Table, owner protocol.ID, seq uint64, tomb bool, v any) []byte {
	val, err := protocol.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	raw, err := protocol.SignRecord(&protocol.Record{
		Table: tb, Tombstone: tomb, Owner: owner, Signer: protocol.NodeID(0, s.op.Signing.Public()), Epoch: 1, Sequence: seq,
		Issued: now, Expires: now.Add(time.Hour), Value: val,
	}, s.op.Signing)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

func (s signer) check(r *protocol.Record) error { return r.VerifySignature(s.op.Signing.Public()) }

func candidate(t require, seed uint64) Candidate {
	p := pair(t, seed)
	return Candidate{
		ID: protocol.NodeID(protocol.Domain(1+seed%3), p.Signing.Public()), Signing: p.Signing.Public(), Sealing: p.Sealing.Public(),
		Addresses: []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(seed)}), 7700)},
	}
}

func (s signer) build(epoch uint64, ps []Placement) (head []byte, recs [][]byte) {
	for _, p := range ps {
		recs = append(recs, s.sign(protocol.TableSuperNode, p.ID, epoch, false, p.Value(epoch)))
	}
	h, err := Head(epoch, recs)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.sign(protocol.TableMapHead, HeadOwner(protocol.Hash{1}), epoch, false, h), recs
}

func TestSplitCoversRange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		r := Range{min(a, b), max(a, b)}
		n := rapid.IntRange(1, 64).Draw(t, "n")
		parts := r.Split(n)
		if len(parts) == 0 || len(parts) > n || parts[0].From != r.From || parts[len(parts)-1].To != r.To {
			t.Fatalf("%v cut into %v", r, parts)
		}
		for i, p := range parts {
			if !p.Valid() || i > 0 && p.From != parts[i-1].To+1 {
				t.Fatalf("part %d of %v: %v", i, r, parts)
			}
		}
		p := rapid.Uint64Range(r.From, r.To).Draw(t, "p")
		if c := slices.IndexFunc(parts, func(x Range) bool { return x.Contains(p) }); c < 0 {
			t.Fatalf("%x in no part", p)
		}
	})
	if got := Whole().Split(16); len(got) != 16 || got[15].To != math.MaxUint64 || got[0].To != 1<<60-1 {
		t.Errorf("whole range cut into %v", got)
	}
	if (Range{5, 4}).Split(3) != nil || Whole().Split(0) != nil {
		t.Error("nothing was cut into something")
	}
}

func TestServing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := signer{t, pair(t, 1000)}
		n := rapid.IntRange(1, 6).Draw(t, "n")
		var ps []Placement
		for i := range n {
			a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
			p := Placement{candidate(t, uint64(i)), Range{min(a, b), max(a, b)}, None(), rapid.IntRange(0, 4).Draw(t, "isolated") == 0}
			if c := rapid.Uint64().Draw(t, "c"); c%2 == 0 {
				p.Fill = Range{min(a, c), max(a, c)}
			}
			ps = append(ps, p)
		}
		slices.SortFunc(ps, func(a, b Placement) int { return a.ID.Compare(b.ID) })
		head, recs := s.build(7, ps)
		m, err := Build(head, recs, s.check)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			k := protocol.NewID(protocol.Domain(rapid.Uint32().Draw(t, "d")), protocol.Hash{rapid.Byte().Draw(t, "h")})
			a, b := rapid.Uint64().Draw(t, "from"), rapid.Uint64().Draw(t, "to")
			r := Range{min(a, b), max(a, b)}
			var serving, keeping, sharing []protocol.ID
			for _, p := range ps {
				in := p.Range.ContainsKey(k)
				if m.Covers(p.ID, k) != in {
					t.Fatalf("%v covers %v: %v", p.Range, k, !in)
				}
				if in && !p.Isolated {
					serving = append(serving, p.ID)
				}
				if in || p.Fill.ContainsKey(k) {
					keeping = append(keeping, p.ID)
				}
				if overlaps(p.Range, r) {
					sharing = append(sharing, p.ID)
				}
			}
			for what, c := range map[string]struct {
				got  []Member
				want []protocol.ID
			}{"serving": {m.Serving(k), serving}, "keeping": {m.Keeping(k), keeping}, "sharing": {m.Sharing(r), sharing}} {
				if !slices.EqualFunc(c.got, c.want, func(x Member, id protocol.ID) bool { return x.Peer.ID == id }) {
					t.Fatalf("%s: %v, want %v", what, c.got, c.want)
				}
			}
		}
	})
}

// everywhere has each candidate serve the whole range.
func everywhere(cs ...Candidate) (ps []Placement) {
	for _, c := range cs {
		ps = append(ps, Placement{c, Whole(), None(), false})
	}
	slices.SortFunc(ps, func(a, b Placement) int { return a.ID.Compare(b.ID) })
	return ps
}

func TestBuildRefuses(t *testing.T) {
	s := signer{t, pair(t, 1000)}
	ps := everywhere(candidate(t, 1), candidate(t, 2), candidate(t, 3))
	head, recs := s.build(4, ps)
	tomb := s.sign(protocol.TableSuperNode, candidate(t, 9).ID, 9, true, protocol.SuperNodeValue{})
	m, err := Build(head, append([][]byte{recs[2], tomb}, recs[:2]...), s.check)
	if err != nil || m.Epoch() != 4 || len(m.Members()) != 3 {
		t.Fatalf("honest map: %v", err)
	}
	other := signer{t, pair(t, 1001)}
	evil, _ := other.build(4, ps)
	foreign, frecs := other.build(4, ps)
	_ = foreign
	for name, c := range map[string]struct {
		head []byte
		recs [][]byte
		err  error
	}{
		"missing":        {head, recs[:2], ErrIncomplete},
		"twice":          {head, append(recs[:2:2], recs[1]), ErrIncomplete},
		"foreign head":   {evil, recs, protocol.ErrRecordSigner},
		"foreign record": {head, append(recs[:2:2], frecs[2]), ErrIncomplete},
		"no head":        {recs[0], recs, ErrMap},
		"head inside":    {head, append(recs[:2:2], head), ErrMap},
	} {
		if _, err := Build(c.head, c.recs, s.check); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A record whose ID is not its key's, in a map that the operator did sign.
	bad := ps[0]
	bad.ID = protocol.NewID(1, protocol.Hash{1})
	h2, r2 := s.build(5, []Placement{bad})
	if _, err := Build(h2, r2, s.check); !errors.Is(err, ErrMap) {
		t.Errorf("ID of another key: %v", err)
	}
}

func TestHeadHashIgnoresOrder(t *testing.T) {
	s := signer{t, pair(t, 1000)}
	_, recs := s.build(4, everywhere(candidate(t, 1), candidate(t, 2), candidate(t, 3)))
	a, err := HeadHash(recs)
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(recs)
	if b, _ := HeadHash(recs); a != b {
		t.Error("order changed the hash")
	}
	if _, err := HeadHash([][]byte{{1}}); err == nil {
		t.Error("hash over garbage")
	}
}

// BenchmarkBuild puts a map of 20,000 members in ranges of three together.
func BenchmarkBuild(b *testing.B) {
	members := make([]Member, 20000)
	for i := range members {
		from := uint64(i/3) << 48
		members[i].Range, members[i].Fill = Range{from, from | (1<<48 - 1)}, None()
	}
	for b.Loop() {
		cut(members)
	}
}
