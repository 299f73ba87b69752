package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	client "culvert/node/enrol"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

const (
	// A certificate is renewed when two thirds of its life are over; failures are repeated with growing pauses.
	renewRetryFirst = time.Minute
	renewRetryLast  = 6 * time.Hour
	renewTimeout    = 30 * time.Second
	// afterRevocation bounds the spread of renewals that fetch the new domain key, so that they do not come all at once.
	afterRevocation = 5 * time.Minute
)

// renewAt is when a certificate is to be renewed.
func renewAt(c *protocol.CertifiedNode) time.Time {
	return c.Issued.Add(c.Expires.Sub(c.Issued) * 2 / 3)
}

// renewLoop keeps the certificate and the domain keys current.
func (m *membership) renewLoop(ctx context.Context) {
	retry := renewRetryFirst
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.renewNow:
			t.Reset(rand.N(afterRevocation))
			continue
		case <-t.C:
		}
		now := m.node.meshNow()
		if wait := renewAt(m.certificate()).Sub(now); wait > 0 && !m.renewWanted.Load() && m.trusted() {
			t.Reset(min(wait, time.Hour))
			continue
		}
		if err := m.renew(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			m.node.log.Warn("certificate not renewed", "domain", m.domain.String(), "expires", m.certificate().Expires, "error", err)
			t.Reset(retry + rand.N(retry/2))
			retry = min(2*retry, renewRetryLast)
			continue
		}
		m.renewWanted.Store(false)
		retry = renewRetryFirst
		t.Reset(time.Hour)
	}
}

// renew fetches a new certificate, the domain keys and the bundle.
func (m *membership) renew(ctx context.Context) error {
	m.mu.Lock()
	f := m.file
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	var got *client.Membership
	var err error
	for _, address := range m.operatorAddresses(f.HTTPS) {
		cfg := m.node.operatorClient(m.node.meshNow)
		cfg.Address, cfg.Root = address, protocol.Hash(f.Root)
		c := client.New(cfg)
		got, err = c.Renew(ctx, m.id(), m.keys)
		c.Close()
		if f.HTTPS = address; !errors.Is(err, client.ErrUnreachable) && !errors.Is(err, enrol.ErrStandby) {
			break
		}
	}
	if errors.Is(err, enrol.ErrRevoked) || errors.Is(err, enrol.ErrBanned) {
		m.node.log.Error("the operator no longer admits this node", "domain", f.DomainName, "error", err)
	}
	if err != nil {
		return err
	}
	f.take(got)
	if err := m.replace(&f, got.Node); err != nil {
		return err
	}
	learned := m.mesh.learn(&f.Bundle, m.node.meshNow())
	m.node.log.Info("certificate renewed", "domain", f.DomainName, "expires", got.Node.Expires)
	m.touch()
	return errors.Join(learned, m.register())
}

// operatorClient is how this node reaches an operator's HTTPS.
func (n *Node) operatorClient(now func() time.Time) client.Config {
	return client.Config{Now: now, Dial: n.cfg.Network.Dial, Proxy: n.choice.dialer.Proxies.Request}
}

// operatorAddresses are where to renew: with the operator that answered last, else with any that the chain admits, newest
// epoch first. The last one comes last where the chain has retired it: it may be gone for good.
func (m *membership) operatorAddresses(last string) []string {
	var l []string
	now := m.node.meshNow()
	for _, o := range m.mesh.trust.Operators() {
		switch {
		case o.HTTPS == "" || !o.Signs(now) || slices.Contains(l, o.HTTPS):
		case o.HTTPS == last:
			l = slices.Insert(l, 0, last)
		default:
			l = append(l, o.HTTPS)
		}
	}
	if !slices.Contains(l, last) {
		l = append(l, last)
	}
	return l
}

// trusted reports whether this node's certificate still counts: its signer may have been distrusted since.
func (m *membership) trusted() bool {
	_, err := m.mesh.trust.CheckNode(m.certificate().Record, m.node.meshNow())
	return !errors.Is(err, protocol.ErrUntrusted)
}

// replace writes the file and only then goes by it. Nobody writes an older one over it meanwhile.
func (m *membership) replace(f *membershipFile, cert *protocol.CertifiedNode) error {
	m.saving.Lock()
	defer m.saving.Unlock()
	if m.left {
		return errClosed
	}
	if err := f.save(m.dir); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.file, m.cert = *f, cert
	return nil
}

// keep writes what the mesh has told since, so that the next start needs no operator.
func (m *membership) keep() error {
	m.saving.Lock()
	defer m.saving.Unlock()
	if m.left {
		return nil
	}
	m.mu.Lock()
	m.file.Bundle = m.mesh.bundle(m.node.meshNow())
	f := m.file
	m.mu.Unlock()
	return f.save(m.dir)
}
