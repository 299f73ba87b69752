package protocol

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"culvert/protocol/key"
)

// ErrUntrusted marks a record whose signer the chain does not admit, or no longer.
var ErrUntrusted = errors.New("protocol: signer is not an operator that the root admits")

// CertifiedNode is a node whose Node record has been verified.
type CertifiedNode struct {
	ID       ID
	Signing  key.Public
	Sealing  key.Public
	Groups   []string
	Issued   time.Time
	Expires  time.Time
	Sequence uint64
	Record   []byte
}

// Operator is one link of the chain beneath the root.
type Operator struct {
	OperatorNodeValue
	ID      ID
	Epoch   uint64
	Issued  time.Time
	Expires time.Time
	// Retired is since when it signs no more, zero while it does: what it issued later is refused, what it issued before counts.
	Retired time.Time
	Record  []byte
}

// Signs reports whether what it issues at now counts.
func (o *Operator) Signs(now time.Time) bool { return o.Retired.IsZero() && now.Before(o.Expires) }

// Trust is the chain root → operators → records. It starts from the root's key hash that the join token carried.
type Trust struct {
	root Hash

	strange chan struct{}

	mu      sync.RWMutex
	ops     map[ID]*Operator
	order   []ID   // in which they were admitted
	top     uint64 // highest epoch admitted
	rootKey key.Public
	waiting map[ID]*Operator // proven by the root, but whose predecessor has not come yet
}

// maxWaiting bounds the operators whose predecessor is unknown; the root has signed them all.
const maxWaiting = 64

// NewTrust makes an empty chain beneath the root whose public key has this SHA-256.
func NewTrust(root Hash) *Trust {
	return &Trust{root: root, strange: make(chan struct{}, 1), ops: make(map[ID]*Operator), waiting: make(map[ID]*Operator)}
}

// Strange says that a record of an operator came which is not in the chain: time to ask for the chain anew.
func (t *Trust) Strange() <-chan struct{} { return t.strange }

// Root is SHA-256 of the root's signing key.
func (t *Trust) Root() Hash { return t.root }

// RootID is the signer of OperatorNode records.
func (t *Trust) RootID() ID { return NewID(OperatorDomain, t.root) }

// MapHeadID is the owner of the mesh's MapHead record.
func (t *Trust) MapHeadID() ID { return t.RootID() }

// HandoverText is what an old operator signs to admit next within its own epoch.
func HandoverText(next key.Public, epoch uint64) []byte {
	return fmt.Appendf(nil, "culvert 1 handover\x00%x epoch %d", next, epoch)
}

// AddOperator verifies an OperatorNode record and takes it in. rootKey is the root's public key. The first operator needs
// the root alone, as does one that comes after all that are known have expired; a further one of the same epoch also a known
// operator's consent; one of a higher epoch the root alone, for the case that the old is lost (ID-4). A tombstone retires its
// owner as of its time of issue.
func (t *Trust) AddOperator(raw []byte, rootKey key.Public, now time.Time) error {
	o, err := t.proveOperator(raw, rootKey, now)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.admitLocked(o, now); err != nil {
		if len(t.waiting) < maxWaiting {
			t.waiting[o.ID] = o
		}
		return err
	}
	t.rootKey = rootKey
	for again := true; again; { // whoever rests on it
		again = false
		for id, w := range t.waiting {
			if t.admitLocked(w, now) == nil {
				delete(t.waiting, id)
				again = true
			}
		}
	}
	return nil
}

// Introduce is AddOperator for an operator that shows its record itself; a chain that is empty takes nobody in so.
func (t *Trust) Introduce(raw []byte, now time.Time) error {
	t.mu.RLock()
	root := t.rootKey
	t.mu.RUnlock()
	return t.AddOperator(raw, root, now)
}

func (t *Trust) proveOperator(raw []byte, rootKey key.Public, now time.Time) (*Operator, error) {
	r, err := ParseRecord(raw)
	if err != nil {
		return nil, err
	}
	if r.Table != TableOperatorNode || r.Signer != t.RootID() || r.Owner.Domain() != OperatorDomain {
		return nil, ErrUntrusted
	}
	if err := key.CheckPublic(rootKey); err != nil {
		return nil, err
	}
	if err := r.VerifySignature(rootKey); err != nil {
		return nil, err
	}
	if r.Expired(now) {
		return nil, ErrRecordExpired
	}
	o := &Operator{ID: r.Owner, Epoch: r.Epoch, Issued: r.Issued, Expires: r.Expires, Record: raw}
	if r.Tombstone {
		o.Retired = r.Issued
	}
	if err := Unmarshal(r.Value, &o.OperatorNodeValue); err != nil {
		return nil, err
	}
	if err := key.CheckPublic(o.Signing); err != nil {
		return nil, err
	}
	if o.ID != NodeID(OperatorDomain, o.Signing) {
		return nil, fmt.Errorf("%w: ID is not the key's", ErrUntrusted)
	}
	return o, nil
}

func (t *Trust) admitLocked(o *Operator, now time.Time) error {
	if old, ok := t.ops[o.ID]; ok {
		ro, err := ParseRecord(old.Record)
		r, rerr := ParseRecord(o.Record)
		if err == nil && rerr == nil && !r.Supersedes(ro) {
			return nil
		}
	} else if o.Epoch <= t.top && t.anyAliveLocked(now) {
		p, ok := t.ops[o.Predecessor]
		if !ok || p.Epoch != o.Epoch || !p.Signing.Verify(HandoverText(o.Signing, o.Epoch), o.PredecessorSignature) {
			return fmt.Errorf("%w: no consent of an operator of epoch %d", ErrUntrusted, o.Epoch)
		}
	}
	if _, ok := t.ops[o.ID]; !ok {
		t.order = append(t.order, o.ID)
	}
	t.ops[o.ID] = o
	t.top = max(t.top, o.Epoch)
	return nil
}

func (t *Trust) anyAliveLocked(now time.Time) bool {
	for _, o := range t.ops {
		if now.Before(o.Expires) {
			return true
		}
	}
	return false
}

// Chain is every admitted operator's record, in an order in which another chain admits them.
func (t *Trust) Chain() [][]byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	l := make([][]byte, 0, len(t.order))
	for _, id := range t.order {
		l = append(l, t.ops[id].Record)
	}
	return l
}

// Operators are the admitted ones, newest epoch first, then by ID.
func (t *Trust) Operators() []*Operator {
	t.mu.RLock()
	defer t.mu.RUnlock()
	l := make([]*Operator, 0, len(t.ops))
	for _, o := range t.ops {
		l = append(l, o)
	}
	slices.SortFunc(l, func(a, b *Operator) int {
		if a.Epoch != b.Epoch {
			return int(int64(b.Epoch) - int64(a.Epoch))
		}
		return a.ID.Compare(b.ID)
	})
	return l
}

// Operator is the admitted operator of that ID.
func (t *Trust) Operator(id ID) (*Operator, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	o, ok := t.ops[id]
	return o, ok
}

// CheckStatic verifies a record that only an operator writes: Node, SuperNode, EndDevice, Revocation, MapHead.
func (t *Trust) CheckStatic(r *Record, now time.Time) error { return t.checkStatic(r, now, false) }

func (t *Trust) checkStatic(r *Record, now time.Time, own bool) error {
	o, ok := t.Operator(r.Signer)
	if !ok || now.After(o.Expires) {
		if !ok && r.Signer.Domain() == OperatorDomain {
			select {
			case t.strange <- struct{}{}:
			default:
			}
		}
		return ErrUntrusted
	}
	if !own && !o.Retired.IsZero() && r.Issued.After(o.Retired) {
		return fmt.Errorf("%w: it was retired before", ErrUntrusted)
	}
	// Who was replaced at a higher epoch must not outrank its successor's records.
	if r.Epoch > o.Epoch {
		return fmt.Errorf("%w: epoch %d of an operator of epoch %d", ErrUntrusted, r.Epoch, o.Epoch)
	}
	if len(o.Domains) > 0 && !slices.Contains(o.Domains, r.Owner.Domain()) {
		return fmt.Errorf("%w: operator is limited to other domains", ErrUntrusted)
	}
	if r.Expired(now) {
		return ErrRecordExpired
	}
	return r.VerifySignature(o.Signing)
}

// CheckNode verifies a Node record and returns the certified node.
func (t *Trust) CheckNode(raw []byte, now time.Time) (*CertifiedNode, error) {
	return t.checkNode(raw, now, false)
}

// RecallNode is CheckNode for a node's own certificate as it kept it: though others refuse it since its signer was retired, it
// says who this node is, and is to be renewed.
func (t *Trust) RecallNode(raw []byte, now time.Time) (*CertifiedNode, error) {
	return t.checkNode(raw, now, true)
}

func (t *Trust) checkNode(raw []byte, now time.Time, own bool) (*CertifiedNode, error) {
	r, err := ParseRecord(raw)
	if err != nil {
		return nil, err
	}
	if r.Table != TableNode || r.Tombstone {
		return nil, fmt.Errorf("%w: %s is not a Node record", ErrRecord, r.Table)
	}
	if err := t.checkStatic(r, now, own); err != nil {
		return nil, err
	}
	var v NodeValue
	if err := Unmarshal(r.Value, &v); err != nil {
		return nil, err
	}
	if err := key.CheckPublic(v.Signing); err != nil {
		return nil, err
	}
	if r.Owner != NodeID(r.Owner.Domain(), v.Signing) || r.Owner.Domain() == OperatorDomain {
		return nil, fmt.Errorf("%w: ID is not the key's", ErrUntrusted)
	}
	return &CertifiedNode{
		ID: r.Owner, Signing: v.Signing, Sealing: v.Sealing, Groups: v.Groups,
		Issued: r.Issued, Expires: r.Expires, Sequence: r.Sequence, Record: raw,
	}, nil
}

// CheckOwned verifies a record that its own node writes (NodeInfo).
func CheckOwned(r *Record, owner *CertifiedNode, now time.Time) error {
	if r.Table != TableNodeInfo || r.Owner != owner.ID || r.Signer != owner.ID {
		return ErrRecordSigner
	}
	if r.Expired(now) {
		return ErrRecordExpired
	}
	return r.VerifySignature(owner.Signing)
}

// OperatorAsNode lets an operator take part in messages like any node.
func (o *Operator) OperatorAsNode() *CertifiedNode {
	return &CertifiedNode{ID: o.ID, Signing: o.Signing, Sealing: o.Sealing, Issued: o.Issued, Expires: o.Expires, Record: o.Record}
}
