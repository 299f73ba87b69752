package node

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	client "culvert/node/enrol"
	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// ErrMember means that the node is in the domain already.
var ErrMember = errors.New("this agent is a member of the domain already")

// Enrol joins the domain that a token names and writes memberships/DOMAIN under dir. It needs no daemon.
func Enrol(ctx context.Context, dir, token, name string, now func() time.Time) (domain protocol.Domain, domainName string, err error) {
	return EnrolBy(ctx, dir, token, name, client.Config{Now: now})
}

// EnrolBy is Enrol with a clock, a network and a proxy of the caller's; address and root are the token's.
func EnrolBy(ctx context.Context, dir, token, name string, by client.Config) (domain protocol.Domain, domainName string, err error) {
	t, err := enrol.ParseToken(token)
	if err != nil {
		return 0, "", err
	}
	if err := protocol.CheckName(name); err != nil {
		return 0, "", fmt.Errorf("node %w; choose one with --name", err)
	}
	keys, err := key.Generate(rand.Reader)
	if err != nil {
		return 0, "", err
	}
	// The pair is on disk before the operator signs it, and the same pair is tried again after a lost answer.
	pending := filepath.Join(dir, "memberships")
	if err := os.MkdirAll(pending, 0o700); err != nil {
		return 0, "", err
	}
	pendingKey := filepath.Join(pending, fmt.Sprintf("joining-%x.key", enrol.SecretHash(t.Secret)))
	if old, err := key.Load(pendingKey); err == nil {
		keys = old
	} else if err := keys.Save(pendingKey); err != nil {
		return 0, "", err
	}
	by.Address, by.Root = t.Address, t.Root
	c := client.New(by)
	defer c.Close()
	m, err := c.Join(ctx, t, keys, name)
	if err != nil {
		return 0, "", err
	}
	domain = m.Node.ID.Domain()
	home := filepath.Join(pending, domain.String())
	if _, err := os.Stat(filepath.Join(home, membershipJSON)); err == nil {
		os.Remove(pendingKey)
		return domain, m.DomainName, fmt.Errorf("%w: %s", ErrMember, m.DomainName)
	}
	if err := os.MkdirAll(home, 0o700); err != nil {
		return 0, "", err
	}
	f := membershipFile{Version: membershipVersion, Root: enrol.Bytes32(t.Root), HTTPS: t.Address, Name: name}
	f.take(m)
	if err := keys.Save(filepath.Join(home, keyFile)); err != nil {
		return 0, "", err
	}
	if err := f.save(home); err != nil {
		return 0, "", err
	}
	return domain, m.DomainName, os.Remove(pendingKey)
}

// keptKeys bounds the domain keys that are kept though an operator no longer hands them out.
const keptKeys = 2

// take copies what an operator's answer brought. The newest keys that are not in it stay, for reading: an operator that was
// restored from a backup does not know those that came after it, under which others still seal.
func (f *membershipFile) take(m *client.Membership) {
	old := slices.Clone(f.Secrets.Keys)
	f.DomainName, f.Certificate, f.Secrets, f.Bundle = m.DomainName, m.Node.Record, m.Secrets, m.Bundle
	f.Secrets.Keys = slices.Clone(f.Secrets.Keys)
	slices.SortFunc(old, func(a, b enrol.DomainKey) int { return cmp.Compare(b.Epoch, a.Epoch) })
	kept := 0
	for _, k := range old {
		if kept < keptKeys && !slices.ContainsFunc(m.Secrets.Keys, func(h enrol.DomainKey) bool { return h.Epoch == k.Epoch }) {
			f.Secrets.Keys = append(f.Secrets.Keys, k)
			kept++
		}
	}
}

// Memberships counts the domains that the node at dir is in, without a daemon.
func Memberships(dir string) (int, error) {
	l, err := membershipDirs(dir)
	return len(l), err
}

// loadMemberships reads every membership of this node from disk.
func (n *Node) loadMemberships() error {
	dirs, err := membershipDirs(n.cfg.Dir)
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if _, err := n.loadMembership(dir); err != nil {
			if !errors.Is(err, errDamaged) {
				return fmt.Errorf("membership %s: %w", filepath.Base(dir), err)
			}
			to, rerr := setAside(dir, n.now())
			if rerr != nil {
				return rerr
			}
			n.log.Error("membership is damaged and was set aside; join the domain again", "kept", to, "error", err)
		}
	}
	return n.reconsider()
}

// loadMembership reads one directory, verifies it and adds it to the node.
func (n *Node) loadMembership(dir string) (*membership, error) {
	f, keys, err := readMembership(dir)
	if err != nil {
		return nil, err
	}
	// Judged by when it was kept: neither a wrong clock nor a long absence makes damage of it. What has expired since is refused
	// where it is used.
	at := n.meshNow()
	if kept := time.UnixMilli(f.Bundle.Time); f.Bundle.Time > 0 && kept.Before(at) {
		at = kept
	}
	s := n.meshOf(protocol.Hash(f.Root))
	if err := s.learn(&f.Bundle, at); err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	cert, err := checkFile(&f, keys, s.trust, at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	m := &membership{
		dir: dir, domain: cert.ID.Domain(), keys: keys, mesh: s, node: n, file: f, cert: cert,
		tasks: newTasks(n.tasks.ctx), devices: newDeviceCache(), changed: make(chan struct{}, 1),
		refreshNow: make(chan struct{}, 1), askNow: make(chan struct{}, 1), renewNow: make(chan struct{}, 1), homesNow: make(chan struct{}, 1),
		homesDue: make(chan struct{}, 1), movedNow: make(chan struct{}, 1), offerNow: make(chan struct{}, 1),
	}
	m.prepare()
	n.mu.Lock()
	if _, ok := n.memberships[m.domain]; ok {
		n.mu.Unlock()
		m.stop()
		return nil, ErrMember
	}
	n.memberships[m.domain] = m
	n.mu.Unlock()
	s.follow(m, m.mapChanged)
	return m, m.register()
}

// reconsider gives the tunnels every membership's consent list anew: a bare name counts only while there is one membership.
func (n *Node) reconsider() error {
	l := n.members()
	var errs []error
	for _, m := range l {
		errs = append(errs, n.tunnelIdentity(m, len(l) == 1))
	}
	return errors.Join(errs...)
}

// register makes the membership's keys and current certificate known to the endpoint and the tunnels.
func (m *membership) register() error {
	n, cert := m.node, m.certificate()
	if err := n.ep.AddIdentity(endpoint.Identity{
		ID: cert.ID, Keys: m.keys, Record: cert.Record, Trust: m.mesh.trust, Revoked: m.mesh.isRevoked,
	}); err != nil {
		return err
	}
	return n.tunnelIdentity(m, len(n.members()) == 1)
}

// meshOf is the mesh beneath a root, shared by all memberships there.
func (n *Node) meshOf(root protocol.Hash) *mesh {
	n.mu.Lock()
	defer n.mu.Unlock()
	s, ok := n.known[root]
	if !ok {
		s = newMesh(root, n.log)
		s.onRevoked = append(s.onRevoked, n.revoked)
		n.known[root] = s
	}
	return s
}

// join enrols in a further domain while the daemon runs.
func (n *Node) join(ctx context.Context, token, name string) (*membership, error) {
	domain, _, err := EnrolBy(ctx, n.cfg.Dir, token, name, n.operatorClient(n.now))
	if err != nil {
		return nil, err
	}
	m, err := n.loadMembership(filepath.Join(n.cfg.Dir, "memberships", domain.String()))
	if err != nil {
		return nil, err
	}
	if err := n.reconsider(); err != nil {
		return nil, err
	}
	m.start()
	return m, nil
}

// leave withdraws what the domain knows of this node and deletes its keys.
func (n *Node) leave(ctx context.Context, m *membership) error {
	m.withdraw(ctx)
	if m.inMap() {
		if _, err := m.submit(ctx, nil); err != nil {
			n.log.Info("the operator is not told that this super-node leaves, and will find out", "error", err)
		}
	}
	m.mesh.follow(m, nil)
	m.stop()
	if err := n.retire(m.serves()); err != nil {
		return err
	}
	n.release(m)
	n.mu.Lock()
	delete(n.memberships, m.domain)
	n.mu.Unlock()
	n.networksChanged()
	n.tunnels.RemoveIdentity(m.id())
	n.ep.RemoveIdentity(m.id())
	if err := n.reconsider(); err != nil {
		return err
	}
	if err := n.dropForwards(func(s savedForward) bool { return s.Domain == m.domain.String() }); err != nil {
		return err
	}
	for _, other := range n.members() {
		if err := other.volunteer(); err != nil { // another membership takes over what this one served
			n.log.Error("cannot serve as super-node", "domain", other.domain.String(), "error", err)
		}
	}
	n.log.Info("left the domain", "domain", m.domain.String())
	m.saving.Lock()
	defer m.saving.Unlock()
	m.left = true // whoever was about to save finds it so
	return os.RemoveAll(m.dir)
}

// Leave deletes a membership of the node at dir while no daemon runs; its last announcement expires by itself.
func Leave(dir, domain string) (name string, err error) {
	dirs, err := membershipDirs(dir)
	if err != nil {
		return "", err
	}
	if len(dirs) == 0 {
		return "", ErrNotEnrolled
	}
	for _, d := range dirs {
		f, _, err := readMembership(d)
		if err != nil && !errors.Is(err, errDamaged) {
			return "", err
		}
		if filepath.Base(d) == domain || f.DomainName == domain || domain == "" && len(dirs) == 1 {
			return f.DomainName, os.RemoveAll(d)
		}
	}
	if domain == "" {
		return "", fmt.Errorf("this agent is in %d domains; name one with --domain", len(dirs))
	}
	return "", fmt.Errorf("%w: it is not in domain %q", ErrNotEnrolled, domain)
}
