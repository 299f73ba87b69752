package enrol

import (
	"encoding/binary"
	"fmt"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// MaxSkew is how far a renewal's time may be from the operator's.
const MaxSkew = 2 * time.Minute

// EnrollRequest registers a node's keys by a join token.
type EnrollRequest struct {
	Secret  Secret  `json:"secret"`
	Signing Bytes32 `json:"signing"`
	Sealing Bytes32 `json:"sealing"`
	Name    string  `json:"name"`
	Proof   []byte  `json:"proof"` // the signing key's signature over secret hash, keys and name
}

// NewEnrollRequest makes a request with its proof.
func NewEnrollRequest(t Token, keys *key.Pair, name string) EnrollRequest {
	r := EnrollRequest{Secret: t.Secret, Signing: Bytes32(keys.Signing.Public()), Sealing: Bytes32(keys.Sealing.Public()), Name: name}
	r.Proof = keys.Signing.Sign(r.text())
	return r
}

func (r *EnrollRequest) text() []byte {
	h := SecretHash(r.Secret)
	b := append([]byte("culvert 1 enrol\x00"), h[:]...)
	b = append(b, r.Signing[:]...)
	b = append(b, r.Sealing[:]...)
	return append(b, r.Name...)
}

// Check refuses unusable keys, names and proofs. It proves possession of the signing key, not that the token is good.
func (r *EnrollRequest) Check() error {
	if err := key.CheckPublic(key.Public(r.Signing)); err != nil {
		return fmt.Errorf("%w: signing key: %w", ErrBadKey, err)
	}
	if err := checkSealing(key.Public(r.Sealing)); err != nil {
		return fmt.Errorf("%w: sealing key: %w", ErrBadKey, err)
	}
	if err := protocol.CheckName(r.Name); err != nil {
		return fmt.Errorf("%w: node %w", ErrBadRequest, err)
	}
	if !key.Public(r.Signing).Verify(r.text(), r.Proof) {
		return fmt.Errorf("%w: the proof is not the signing key's", ErrBadKey)
	}
	return nil
}

// checkSealing agrees once with a fixed scalar: a point of small order has no shared secret with anybody.
func checkSealing(p key.Public) error {
	s, err := key.NewSealing(append(make([]byte, 31), 0x40))
	if err == nil {
		_, err = s.Agree(p)
	}
	return err
}

// RenewRequest asks for a new certificate for the same keys.
type RenewRequest struct {
	ID        protocol.ID `json:"id"`
	Time      int64       `json:"time"` // ms since 1970, as the operator's clock has it
	Signature []byte      `json:"signature"`
}

// NewRenewRequest makes a request signed by the node's key, for the operator beneath root only.
func NewRenewRequest(root protocol.Hash, id protocol.ID, s *key.Signing, now time.Time) RenewRequest {
	r := RenewRequest{ID: id, Time: now.UnixMilli()}
	r.Signature = s.Sign(r.text(root))
	return r
}

func (r *RenewRequest) text(root protocol.Hash) []byte {
	b := append([]byte("culvert 1 renew\x00"), root[:]...)
	b = append(b, r.ID[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(r.Time))
}

// Check proves that the request is p's, meant for the operator beneath root and fresh.
func (r *RenewRequest) Check(root protocol.Hash, p key.Public, now time.Time) error {
	if r.ID.Hash() != protocol.Hash(p.Hash()) || !p.Verify(r.text(root), r.Signature) {
		return fmt.Errorf("%w: the signature is not the node's", ErrBadKey)
	}
	if d := now.Sub(time.UnixMilli(r.Time)); d > MaxSkew || d < -MaxSkew {
		return fmt.Errorf("%w: it says %s, the operator's %s; set this machine's clock", ErrClock,
			time.UnixMilli(r.Time).UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return nil
}

// EnrollResponse answers enrolment and renewal.
type EnrollResponse struct {
	Certificate []byte  `json:"certificate"` // the Node record
	DomainName  string  `json:"domain_name"`
	Secrets     Secrets `json:"secrets"`
	Bundle      Bundle  `json:"bundle"`
}
