package nodetest

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/node/config"
	enrolclient "culvert/node/enrol"
	"culvert/operator"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

var local = operator.Actor{Name: "test", Local: true}

// life is a mesh in use: look-ups without pause from two agents, one of which asks super-nodes by another way than the other,
// and a tunnel that bytes go through. None of it may fail, whatever happens to operators.
type life struct {
	*mesh
	supers []*agent
	at     *agent
	users  []*agent
	device *device
	tunnel net.Conn

	stopped chan struct{}
	ended   sync.WaitGroup
	mu      sync.Mutex
	lookups int
	echoes  int
	failed  []error
}

func newLife(t *testing.T) *life {
	m := newMeshAs(t, func(m *mesh) { m.agents.Wave = lookupWave }, "acme")
	l := &life{mesh: m, device: newDevice(t, "printer"), stopped: make(chan struct{})}
	for _, name := range []string{"super-1", "super-2", "super-3"} {
		l.supers = append(l.supers, l.super(name, "acme"))
	}
	l.at = l.agent("workshop", "acme", consents(l.device))
	for _, name := range []string{"desk-1", "desk-2"} {
		l.users = append(l.users, l.agent(name, "acme", func(c *config.Config) { c.Tunnel = false }))
	}
	l.mesh.device(l.at, l.device)
	for _, u := range l.users {
		u.sees(l.device.name)
	}
	for _, s := range l.supers {
		l.announced(s, l.at)
	}
	tun := l.users[0].opens(client.OpenRequest{Device: l.device.name, Port: l.device.portText()})
	l.tunnel = talk(t, tun.Local, l.device.name)
	for _, u := range l.users {
		l.ended.Go(func() { l.look(u) })
	}
	l.ended.Go(l.speak)
	return l
}

func (l *life) done() bool {
	select {
	case <-l.stopped:
		return true
	default:
		return false
	}
}

func (l *life) note(err error, n *int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if *n++; err != nil {
		l.failed = append(l.failed, err)
	}
}

func (l *life) look(u *agent) {
	for !l.done() {
		d, err := u.api.Devices(l.t.Context(), client.DeviceQuery{Refresh: true})
		if err == nil && len(d) == 0 {
			err = errors.New("no device")
		}
		l.note(err, &l.lookups)
	}
}

func (l *life) speak() {
	r := bufio.NewReader(l.tunnel)
	for !l.done() {
		err := l.tunnel.SetDeadline(time.Now().Add(patience))
		if err == nil {
			_, err = l.tunnel.Write([]byte("still there?\n"))
		}
		if err == nil {
			_, err = r.ReadString('\n')
		}
		if l.note(err, &l.echoes); err != nil {
			return
		}
	}
}

// went waits until many more look-ups have been made.
func (l *life) went() {
	l.t.Helper()
	l.mu.Lock()
	n := l.lookups
	l.mu.Unlock()
	eventually(l.t, "look-ups go on", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.lookups >= n+100
	})
}

// end stops all that and says how it went.
func (l *life) end() {
	l.t.Helper()
	l.went()
	close(l.stopped)
	l.ended.Wait()
	l.t.Logf("%d look-ups, %d echoes through the tunnel, %d failed", l.lookups, l.echoes, len(l.failed))
	for i, err := range l.failed {
		if i < 5 {
			l.t.Error(err)
		}
	}
	if l.echoes == 0 {
		l.t.Error("nothing went through the tunnel")
	}
}

// reopened lets an operator that has another key start anew, as `culvert operator run` does.
func (m *mesh) reopened() {
	m.t.Helper()
	if err := <-m.ended; !errors.Is(err, operator.ErrReopen) {
		m.t.Fatalf("the operator ended with %v", err)
	}
	m.op.Close()
	m.start(nil)
}

func (m *mesh) operatorID() protocol.ID { return m.operatorPeer().ID }

// mapSignedBy waits until the super-nodes serve a map that the mesh's operator has signed.
func (m *mesh) mapSignedBy(supers []*agent, id protocol.ID) {
	m.t.Helper()
	for _, s := range supers {
		to, p := s.peer(), m.probeAs(supers[0], supers[0].member("").DomainID)
		eventually(m.t, s.name+" has the map", func() bool {
			l, err := p.list(to, protocol.GetSuperNodes{})
			if err != nil || len(l) == 0 {
				return false
			}
			r, err := protocol.ParseRecord(l[0])
			return err == nil && r.Table == protocol.TableMapHead && r.Signer == id
		})
		p.close()
	}
}

// newcomer enrols with the mesh's operator and reaches a node that was there before.
func (l *life) newcomer(m *mesh, name string) *agent {
	l.t.Helper()
	a := m.agent(name, "acme", func(c *config.Config) { c.Tunnel = false })
	lookAndOpen(l.t.(*testing.T), a, l.device)
	return a
}

func (l *life) renew(m *mesh, a *agent) error {
	l.t.Helper()
	keys := must[*key.Pair](l.t)(key.Load(filepath.Join(a.dir, "memberships", a.member("").DomainID, "node.key")))
	c := enrolclient.New(enrolclient.Config{Address: m.https, Root: m.op.RootKey().Hash()})
	defer c.Close()
	_, err := c.Renew(l.t.Context(), a.id(""), keys)
	return err
}

// elsewhere is another computer, on which an operator is restored.
func (m *mesh) elsewhere(file string) *mesh {
	m.t.Helper()
	e := &mesh{t: m.t, dir: m.t.TempDir(), set: m.set, agents: m.agents, made: 100 + m.made}
	must[operator.Restored](m.t)(operator.Restore(m.t.Context(), file, e.opDir(), operator.RestoreOptions{}))
	e.https, e.port = freeAddr(m.t), freePort(m.t)
	m.t.Cleanup(e.stop)
	return e
}

func (m *mesh) backup() string {
	m.t.Helper()
	file := filepath.Join(m.t.TempDir(), "backup")
	must[operator.BackupInfo](m.t)(operator.Backup(m.t.Context(), m.opDir(), file, time.Now()))
	return file
}

// takeover has an operator that does not run take over, under its own address.
func (m *mesh) takeover(spec operator.TakeoverSpec) {
	m.t.Helper()
	op := must[*operator.Operator](m.t)(operator.Open(m.t.Context(), m.opDir(), operator.Options{}))
	spec.Advertise = m.https
	must[operator.Handover](m.t)(op.Takeover(m.t.Context(), local, spec))
	noError(m.t, op.Close())
}

// The operator's key is rotated while everything goes on.
func TestKeyRotated(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	old := l.operatorID()
	for range 2 {
		must[operator.Handover](t)(l.op.Rotate(t.Context(), local, operator.RotateSpec{After: "1s"}))
		l.reopened()
		l.went()
	}
	if l.operatorID() == old {
		t.Fatal("the key is the same")
	}
	l.mapSignedBy(l.supers, l.operatorID())
	late := l.newcomer(l.mesh, "late")
	late.stop() // and by what it keeps on disk
	late.start()
	lookAndOpen(t, late, l.device)
	l.end()
}

// The operator alone is the mesh, and its key is rotated: nodes that know only the former key find the new one.
func TestKeyRotatedWithoutSuperNodes(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	d := newDevice(t, "printer")
	at := m.agent("workshop", "acme", consents(d))
	user := m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	m.device(at, d)
	user.sees(d.name)
	must[operator.Handover](t)(m.op.Rotate(t.Context(), local, operator.RotateSpec{After: "0s"}))
	m.reopened()
	lookAndOpen(t, user, d)
	late := m.agent("late", "acme", nil)
	lookAndOpen(t, late, d)
}

// The operator is lost for good; the root and a backup take the mesh on at another address, while everything goes on. What came
// after the backup is not rolled back, and the old one, should it come back, stands by.
func TestOperatorLost(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	gone := l.agent("gone", "acme", nil)
	file := l.backup()
	late := l.agent("late", "acme", nil)
	must[operator.NodeView](t)(l.op.RevokeNode(t.Context(), admin, gone.id("").String()))
	l.settled()
	l.stop()
	l.went()

	next := l.elsewhere(file)
	next.takeover(operator.TakeoverSpec{})
	next.start(nil)
	eventually(t, "the new operator leads", func() bool { return l.renew(next, late) == nil })
	if err := l.renew(next, gone); !errors.Is(err, enrol.ErrRevoked) {
		t.Errorf("revoked after the backup, it renews: %v", err)
	}
	l.mapSignedBy(l.supers, next.operatorID())
	l.newcomer(next, "later")
	l.went()

	l.start(nil) // the old one comes back
	eventually(t, "the old one stands by", func() bool {
		_, err := l.op.AddDomain(t.Context(), admin, "mine")
		return errors.Is(err, operator.ErrStandby)
	})
	if err := l.renew(l.mesh, late); !errors.Is(err, enrol.ErrStandby) {
		t.Errorf("it renews: %v", err)
	}
	l.mapSignedBy(l.supers, next.operatorID())
	l.end()
}

// settled waits until super-nodes have all that the operator has signed.
func (m *mesh) settled() {
	m.t.Helper()
	eventually(m.t, "nothing waits", func() bool { return must[operator.Pushed](m.t)(m.op.Push(m.t.Context(), admin, "")).Waiting == 0 })
	m.op.Settle(m.t.Context())
}

// The same, with the key of the backup instead of the root: the operator goes on where it was, and its twin stands by.
func TestOperatorRestored(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	gone := l.agent("gone", "acme", nil)
	file := l.backup()
	late := l.agent("late", "acme", nil)
	must[operator.NodeView](t)(l.op.RevokeNode(t.Context(), admin, gone.id("").String()))
	l.settled()
	l.stop()
	l.went()

	again := l.elsewhere(file)
	l.https, again.https = again.https, l.https // the name leads there now
	l.port, again.port = again.port, l.port
	again.start(nil)
	eventually(t, "it signs again", func() bool { return l.renew(again, late) == nil })
	if err := l.renew(again, gone); !errors.Is(err, enrol.ErrRevoked) {
		t.Errorf("revoked after the backup, it renews: %v", err)
	}
	l.newcomer(again, "later")
	l.start(nil)
	eventually(t, "its twin stands by", func() bool {
		_, err := l.op.AddDomain(t.Context(), admin, "mine")
		return errors.Is(err, operator.ErrStandby)
	})
	l.end()
}

// A second operator is added, stands by, and takes over when the first is lost, all while everything goes on.
func TestSecondOperator(t *testing.T) {
	t.Parallel()
	l := newLife(t)
	root := filepath.Join(t.TempDir(), "root.key")
	file := filepath.Join(t.TempDir(), "second")
	https, port := freeAddr(t), freePort(t)
	must[operator.Added](t)(l.op.Add(t.Context(), local, operator.AddSpec{File: file, Advertise: https, Port: port}))
	second := l.elsewhere(file)
	second.https, second.port = https, port
	second.start(nil)
	if err := l.renew(second, l.users[0]); !errors.Is(err, enrol.ErrStandby) {
		t.Errorf("a standby renews: %v", err)
	}
	// It answers nodes as an operator does.
	own := l.probe("acme", false)
	eventually(t, "the second one answers", func() bool {
		v, err := own.list(second.operatorPeer(), protocol.GetOperatorNodes{})
		return err == nil && len(v) == 2
	})
	l.went()
	noError(t, os.Rename(filepath.Join(l.opDir(), "keys", "root.key"), root))
	l.stop()
	late := l.users[1]
	must[operator.Handover](t)(second.op.Takeover(t.Context(), local, operator.TakeoverSpec{RootFile: root}))
	second.reopened()
	eventually(t, "the second one leads", func() bool { return l.renew(second, late) == nil })
	l.mapSignedBy(l.supers, second.operatorID())
	l.newcomer(second, "later")
	l.end()
}

// An operator's key alone installs nobody, and one that the root has retired is refused, whatever it shows.
func TestOperatorKeyAlone(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	super := m.super("super", "acme")
	keys, record, trust := m.op.Identity()
	stolen := newProbe(t, m.operatorID(), keys, record, trust, nil, true)
	thief := must[*key.Pair](t)(key.Generate(rand.Reader))
	forged := func(epoch uint64) []byte {
		v := protocol.OperatorNodeValue{Signing: thief.Signing.Public(), Sealing: thief.Sealing.Public()}
		operator.Consent(keys.Signing, epoch, &v)
		return must[[]byte](t)(operator.SignOperator(keys.Signing, operator.NewOperator{
			Value: v, Epoch: epoch, Sequence: 9, Issued: time.Now(), Expires: time.Now().Add(time.Hour),
		}))
	}
	to := super.peer()
	for _, epoch := range []uint64{1, 2} {
		raw := forged(epoch)
		r := must[*protocol.Record](t)(protocol.ParseRecord(raw))
		if st, err := stolen.put(t.Context(), to, r.Owner, raw, patience); err != nil || st.Status != protocol.StatusOwner {
			t.Errorf("epoch %d: %v, %v", epoch, st.Status, err)
		}
		self := newProbe(t, r.Owner, thief, raw, trust, nil, true)
		if _, err := self.call(t.Context(), to, protocol.GetOperatorNodes{}, time.Second); err == nil {
			t.Error("an operator of its own making is answered")
		}
	}
	operators := func() [][]byte {
		return stolen.listed(to, protocol.GetOperatorNodes{})
	}
	if l := operators(); len(l) != 1 {
		t.Errorf("%d operators", len(l))
	}

	must[operator.Handover](t)(m.op.Takeover(t.Context(), local, operator.TakeoverSpec{}))
	m.reopened()
	m.mapSignedBy([]*agent{super}, m.operatorID())
	head := &protocol.Record{
		Table: protocol.TableMapHead, Owner: trust.MapHeadID(), Signer: stolen.id, Epoch: 1, Sequence: 1 << 40,
		Issued: time.Now(), Expires: time.Now().Add(time.Hour),
	}
	head.Value = must[[]byte](t)(protocol.Marshal(protocol.MapHeadValue{Epoch: 1 << 40}))
	raw := must[[]byte](t)(protocol.SignRecord(head, keys.Signing))
	if st, err := stolen.put(t.Context(), to, head.Owner, raw, patience); err != nil || st.Status == protocol.StatusOK {
		t.Errorf("a map of the retired operator: %v, %v", st.Status, err)
	}
	node := &protocol.Record{Table: protocol.TableNode, Owner: protocol.NodeID(to.ID.Domain(), thief.Signing.Public()), Signer: stolen.id, Epoch: 1,
		Sequence: 1, Issued: time.Now(), Expires: time.Now().Add(time.Hour)}
	node.Value = must[[]byte](t)(protocol.Marshal(protocol.NodeValue{Signing: thief.Signing.Public(), Sealing: thief.Sealing.Public()}))
	raw = must[[]byte](t)(protocol.SignRecord(node, keys.Signing))
	late := newProbe(t, node.Owner, thief, raw, trust, nil, true)
	if _, err := late.call(context.Background(), to, protocol.Ping{}, time.Second); err == nil {
		t.Error("a node that the retired operator certified is answered")
	}
	if _, err := stolen.call(t.Context(), to, protocol.Digest{Table: protocol.TableNode, To: 1<<64 - 1}, time.Second); err == nil {
		t.Error("the retired operator is still shown everything")
	}
}
