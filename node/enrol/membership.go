package enrol

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// Membership is a verified answer to Join or Renew.
type Membership struct {
	Node       *protocol.CertifiedNode
	Trust      *protocol.Trust
	DomainName string
	Secrets    enrol.Secrets
	Bundle     enrol.Bundle
}

// Join registers keys under name with the operator that token names.
func (c *Client) Join(ctx context.Context, token enrol.Token, keys *key.Pair, name string) (*Membership, error) {
	if token.Address != c.config.Address || token.Root != c.config.Root {
		return nil, fmt.Errorf("%w: the token is of another operator", enrol.ErrToken)
	}
	req := enrol.NewEnrollRequest(token, keys, name)
	if err := req.Check(); err != nil {
		return nil, err
	}
	var res enrol.EnrollResponse
	if err := c.do(ctx, http.MethodPost, "/v1/enroll", req, &res); err != nil {
		return nil, err
	}
	return c.verify(&res, keys)
}

// Renew fetches a new certificate for the same keys, and the domain keys as they are now. A clock that is off does not
// hinder it, once the operator's certificate is accepted: the operator's time is taken for a second attempt.
func (c *Client) Renew(ctx context.Context, id protocol.ID, keys *key.Pair) (*Membership, error) {
	var res enrol.EnrollResponse
	attempt := func(now time.Time) error {
		return c.do(ctx, http.MethodPost, "/v1/renew", enrol.NewRenewRequest(c.config.Root, id, keys.Signing, now), &res)
	}
	err := attempt(c.config.Now())
	var wire *enrol.Error
	if errors.Is(err, enrol.ErrClock) && errors.As(err, &wire) && wire.Time > 0 {
		err = attempt(time.UnixMilli(wire.Time))
	}
	if err != nil {
		return nil, err
	}
	m, err := c.verify(&res, keys)
	if err == nil && m.Node.ID != id {
		return nil, fmt.Errorf("%w: the certificate is for another node", enrol.ErrBadAnswer)
	}
	return m, err
}

// verify judges an answer by the operator's time that came with it: TLS has proved who says it.
func (c *Client) verify(res *enrol.EnrollResponse, keys *key.Pair) (*Membership, error) {
	now := time.UnixMilli(res.Bundle.Time)
	trust, err := res.Bundle.Trust(c.config.Root, now)
	if err != nil {
		return nil, err
	}
	node, err := trust.CheckNode(res.Certificate, now)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", enrol.ErrBadAnswer, err)
	}
	if node.Signing != keys.Signing.Public() || node.Sealing != keys.Sealing.Public() {
		return nil, fmt.Errorf("%w: the certificate is for other keys", enrol.ErrBadAnswer)
	}
	s, err := res.Secrets.At(now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", enrol.ErrBadAnswer, err)
	}
	if s.Domain != node.ID.Domain() {
		return nil, fmt.Errorf("%w: secrets of another domain", enrol.ErrBadAnswer)
	}
	if err := protocol.CheckName(res.DomainName); err != nil {
		return nil, fmt.Errorf("%w: domain %w", enrol.ErrBadAnswer, err)
	}
	return &Membership{Node: node, Trust: trust, DomainName: res.DomainName, Secrets: res.Secrets, Bundle: res.Bundle}, nil
}
