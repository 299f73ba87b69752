package operator

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// Enroll registers a node by a token. The use is taken in the transaction that registers, so of any number of requests at
// once only as many succeed as there are uses. The same keys with the same token get the same certificate again: an answer
// that was lost on the way costs no second use. from is the caller's address, for the audit log.
func (a *Authority) Enroll(ctx context.Context, req enrol.EnrollRequest, from string) (*enrol.EnrollResponse, error) {
	if err := req.Check(); err != nil {
		return nil, err
	}
	if err := a.mayWrite(); err != nil {
		return nil, err
	}
	hash := enrol.SecretHash(req.Secret)
	// Most bad tokens end here, without the writer's lock.
	if err := a.db.View(ctx, func(tx *sqlite.Tx) error { _, err := a.admission(tx, hash, req); return err }); err != nil {
		return nil, err
	}
	var res *enrol.EnrollResponse
	err := a.update(ctx, func(tx *sqlite.Tx) error {
		adm, err := a.admission(tx, hash, req)
		if err != nil {
			return err
		}
		if adm.again {
			res, err = a.response(tx, adm.domain, adm.node)
			return err
		}
		if err := tx.UseToken(hash); err != nil {
			if errors.Is(err, sqlite.ErrNotFound) {
				return enrol.ErrTokenUsed
			}
			return err
		}
		if err := a.certify(tx, &adm.node); err != nil {
			return err
		}
		by := Actor{Name: "token " + shortHash(hash) + " from " + from}
		detail := fmt.Sprintf("%s, groups %s, %d uses left", adm.node.Name, strings.Join(adm.node.Groups, ","), adm.left-1)
		if err := a.audit(tx, by, "node.enrol", adm.node.ID.String(), adm.domain.Number, detail); err != nil {
			return err
		}
		res, err = a.response(tx, adm.domain, adm.node)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// admission is what a token and a request come to.
type admission struct {
	domain registry.Domain
	node   registry.Node
	left   int
	again  bool // enrolled by this very token before
}

func (a *Authority) admission(tx *sqlite.Tx, hash protocol.Hash, req enrol.EnrollRequest) (admission, error) {
	k, err := tx.Token(hash)
	if errors.Is(err, sqlite.ErrNotFound) {
		return admission{}, enrol.ErrTokenUnknown
	}
	if err != nil {
		return admission{}, err
	}
	d, err := tx.Domain(k.Domain)
	if err != nil {
		return admission{}, err
	}
	if d.Banned {
		return admission{}, enrol.ErrBanned
	}
	now := a.now()
	adm := admission{domain: d, left: k.Left, node: registry.Node{
		ID: protocol.NodeID(d.Number, key.Public(req.Signing)), Name: req.Name, Signing: key.Public(req.Signing), Sealing: key.Public(req.Sealing),
		Groups: k.Groups, Token: hash, Enrolled: now,
	}}
	old, err := tx.Node(adm.node.ID)
	switch {
	case errors.Is(err, sqlite.ErrNotFound):
		// Revoked between a backup and its loss: the registry knows its revocation and nothing else of it.
		if _, err := tx.LastRevocationOf(adm.node.ID); err == nil {
			return admission{}, fmt.Errorf("%w; it needs new keys to join again", enrol.ErrRevoked)
		} else if !errors.Is(err, sqlite.ErrNotFound) {
			return admission{}, err
		}
	case err != nil:
		return admission{}, err
	case !old.Revoked.IsZero():
		return admission{}, fmt.Errorf("%w; it needs new keys to join again", enrol.ErrRevoked)
	case old.Sealing != adm.node.Sealing:
		return admission{}, fmt.Errorf("%w: this signing key is registered with another sealing key", enrol.ErrBadKey)
	case old.Token == hash && now.Before(old.Expires):
		adm.node, adm.again = old, true
		return adm, nil
	}
	if !now.Before(k.Expires) {
		return admission{}, fmt.Errorf("%w on %s; ask the operator for a new one", enrol.ErrTokenExpired, k.Expires.UTC().Format("2006-01-02 15:04 MST"))
	}
	if k.Left <= 0 {
		return admission{}, fmt.Errorf("%w (%d of %d); ask the operator for a new one", enrol.ErrTokenUsed, k.Uses, k.Uses)
	}
	return adm, nil
}

// certify signs a Node record for n and keeps both.
func (a *Authority) certify(tx *sqlite.Tx, n *registry.Node) error {
	value, err := protocol.Marshal(protocol.NodeValue{Signing: n.Signing, Sealing: n.Sealing, Groups: n.Groups})
	if err != nil {
		return err
	}
	r := &protocol.Record{Table: protocol.TableNode, Owner: n.ID, Value: value}
	if _, err := a.sign(tx, r, nodeLife); err != nil {
		return err
	}
	n.Issued, n.Expires = r.Issued, r.Expires
	return tx.PutNode(*n)
}

// Renew gives a node a new certificate for its keys. Repeated within an hour it gives the same one.
func (a *Authority) Renew(ctx context.Context, req enrol.RenewRequest) (*enrol.EnrollResponse, error) {
	if err := a.mayWrite(); err != nil {
		return nil, err
	}
	now := a.now()
	var n registry.Node
	var d registry.Domain
	err := a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		n, d, err = a.renewable(tx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := req.Check(a.root, n.Signing, now); err != nil {
		return nil, err
	}
	var res *enrol.EnrollResponse
	if !n.Revoked.IsZero() {
		return nil, enrol.ErrRevoked
	}
	if now.Sub(n.Issued) < sameRenewal && now.Before(n.Expires) && !d.Banned {
		err := a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
			res, err = a.response(tx, d, n)
			return err
		})
		return res, err
	}
	err = a.update(ctx, func(tx *sqlite.Tx) error {
		n, d, err := a.renewable(tx, req)
		switch {
		case err != nil:
			return err
		case !n.Revoked.IsZero():
			return enrol.ErrRevoked
		case d.Banned:
			return enrol.ErrBanned
		}
		if err := a.certify(tx, &n); err != nil {
			return err
		}
		if err := a.audit(tx, Actor{Name: "node " + n.ID.Short()}, "node.renew", n.ID.String(), d.Number, ""); err != nil {
			return err
		}
		res, err = a.response(tx, d, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

func (a *Authority) renewable(tx *sqlite.Tx, req enrol.RenewRequest) (registry.Node, registry.Domain, error) {
	n, err := tx.Node(req.ID)
	if errors.Is(err, sqlite.ErrNotFound) || err == nil && a.now().After(n.Expires.Add(renewGrace)) {
		return n, registry.Domain{}, fmt.Errorf("%w; join again with a token", enrol.ErrUnknownNode)
	}
	if err != nil {
		return n, registry.Domain{}, err
	}
	d, err := tx.Domain(n.ID.Domain())
	return n, d, err
}

func (a *Authority) response(tx *sqlite.Tx, d registry.Domain, n registry.Node) (*enrol.EnrollResponse, error) {
	cert, err := tx.Record(protocol.TableNode, n.ID)
	if err != nil {
		return nil, err
	}
	s, err := a.secrets(tx, d)
	if err != nil {
		return nil, err
	}
	b, err := a.bundle(tx, 0)
	if err != nil {
		return nil, err
	}
	return &enrol.EnrollResponse{Certificate: cert.Raw, DomainName: d.Name, Secrets: s, Bundle: *b}, nil
}

// Bundle is what anybody may know: the chain, the map, and revocations numbered higher than since.
func (a *Authority) Bundle(ctx context.Context, since uint64) (*enrol.Bundle, error) {
	var b *enrol.Bundle
	err := a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		b, err = a.bundle(tx, since)
		return err
	})
	return b, err
}

func (a *Authority) bundle(tx *sqlite.Tx, since uint64) (*enrol.Bundle, error) {
	now := a.now()
	b := &enrol.Bundle{RootKey: enrol.Bytes32(a.rootKey), Peers: []enrol.Peer{{ID: a.id, Addresses: a.Peers()}}, Last: since, Time: now.UnixMilli()}
	var err error
	if b.Operators, err = a.chain(tx); err != nil {
		return nil, err
	}
	head, found, err := a.currentMapHead(tx)
	if err != nil {
		return nil, err
	}
	if found {
		b.MapHead = head.Raw()
	}
	if b.SuperNodes, err = a.mapRecords(tx); err != nil {
		return nil, err
	}
	revs, err := tx.Revocations(since, enrol.MaxRevocations+1)
	if err != nil {
		return nil, err
	}
	if len(revs) > enrol.MaxRevocations {
		revs, b.More = revs[:enrol.MaxRevocations], true
	}
	for _, r := range revs {
		b.Revocations = append(b.Revocations, r.Raw)
		b.Last = r.Number
	}
	return b, nil
}
