package nodetest

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"culvert/node/client"
	"culvert/node/config"
	"culvert/operator"
	"culvert/protocol"
)

// `make soak` runs it for half an hour.
var soakTime = flag.Duration("soak", soakShort, "for how long TestSoak kills super-nodes")

const (
	soakSupers  = 5
	soakWriters = 20
	soakReaders = 4
)

// Super-nodes that are processes of their own are killed again and again, one or two at once and at last all, under stores at
// W = 2 and lookups.
// Whenever everybody answers, no lookup finds less than was acknowledged before it began; at the end every acknowledged record
// is there and every database is whole.
func TestSoak(t *testing.T) {
	t.Parallel()
	s := newSoak(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for _, w := range s.writers {
		wg.Go(func() { w.run(ctx) })
	}
	for i := range soakReaders {
		p := s.m.probe("acme", true)
		wg.Go(func() { s.read(ctx, p, rand.New(rand.NewPCG(1, uint64(i)))) })
	}
	wg.Go(func() { s.register(ctx) })
	wg.Go(func() { s.list(ctx) })
	s.killing(ctx)
	// All at once at last: what is found afterwards was on a disk.
	for _, p := range s.supers {
		p.kill()
		s.kills++
	}
	cancel()
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, p := range s.supers {
		p.start()
	}
	for _, p := range s.supers {
		p.serving()
	}
	s.judge()
}

type soak struct {
	t       *testing.T
	m       *mesh
	supers  []*process
	peers   []protocol.Peer
	writers []*quorumWriter
	user    *agent
	on      string // the node whose the devices are

	mu      sync.Mutex
	devices []string // registered, in order; the operator has confirmed those before settled
	settled int

	kills, pairs                                      int
	stores, lookups, partial, lists, unlisted, behind atomic.Int64
	down                                              time.Duration
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{t: t, m: newMesh(t, "acme")}
	for i := range soakSupers {
		s.supers = append(s.supers, s.m.superProcess(fmt.Sprint("super-", i), "acme"))
	}
	for _, p := range s.supers {
		s.peers = append(s.peers, p.peer())
	}
	token := s.m.token("acme", soakWriters)
	for i := range soakWriters {
		s.writers = append(s.writers, &quorumWriter{s: s, writer: &writer{probe: s.m.probeBy(token, true)}, rand: rand.New(rand.NewPCG(2, uint64(i)))})
	}
	s.user = s.m.agent("desk", "acme", func(c *config.Config) { c.Tunnel = false })
	s.on = s.user.member("").NodeID
	// That there are none at all counts only when every member says it, and one is dead most of the time.
	s.add(t.Context(), "device")
	s.user.sees("device")
	return s
}

// killing kills at random for the time asked for; who was killed is back, and answers, before the next is.
func (s *soak) killing(ctx context.Context) {
	r := rand.New(rand.NewPCG(3, 3))
	least, span := 2*time.Second, 8*time.Second
	if *soakTime < 2*time.Minute {
		least, span = least/4, span/4
	}
	idle := func() bool { return s.stores.Load() == 0 || s.lookups.Load() == 0 || s.lists.Load() == 0 } // on a slow machine longer
	for end := time.Now().Add(*soakTime); (time.Now().Before(end) || idle() && time.Now().Before(end.Add(patience))) && !s.t.Failed(); {
		pause(ctx, least+rand.N(span))
		dead := []*process{s.supers[r.IntN(len(s.supers))]}
		if r.IntN(4) == 0 {
			if other := s.supers[r.IntN(len(s.supers))]; other != dead[0] {
				dead = append(dead, other)
				s.pairs++
			}
		}
		began := time.Now()
		for _, p := range dead {
			p.kill()
			s.kills++
		}
		pause(ctx, time.Duration(r.IntN(int(least))))
		for _, p := range dead {
			p.start()
		}
		for _, p := range dead {
			p.serving()
		}
		s.down += time.Since(began)
	}
}

// quorumWriter stores one version after the other, each at two members.
type quorumWriter struct {
	s *soak
	*writer
	rand *rand.Rand

	mu   sync.Mutex
	safe uint64 // acknowledged by two
}

func (w *quorumWriter) acknowledged() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.safe
}

func (w *quorumWriter) run(ctx context.Context) {
	for ctx.Err() == nil {
		w.tried++
		raw, err := w.info(w.tried, protocol.NodeInfoValue{Name: "writer", Version: fmt.Sprint(w.tried)})
		if err != nil {
			w.s.t.Error(err)
			return
		}
		if err := w.everywhere(ctx, raw); err != nil {
			if ctx.Err() == nil {
				w.s.t.Error(err)
			}
			return
		}
		w.mu.Lock()
		w.safe = w.tried
		w.mu.Unlock()
		w.s.stores.Add(1)
		pause(ctx, 100*time.Millisecond+rand.N(100*time.Millisecond))
	}
}

// everywhere puts the version until two members have acknowledged it.
func (w *quorumWriter) everywhere(ctx context.Context, raw []byte) error {
	got := make(map[int]bool)
	for {
		for _, i := range w.rand.Perm(len(w.s.peers)) {
			if got[i] {
				continue
			}
			st, err := w.put(ctx, w.s.peers[i], w.id, raw, 3*time.Second)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
			case st.Status == protocol.StatusOK && st.Sequence >= w.tried:
				if got[i] = true; len(got) == 2 {
					return nil
				}
			case st.Status == protocol.StatusLimit, st.Status == protocol.StatusInternal:
				pause(ctx, 100*time.Millisecond)
			default:
				return fmt.Errorf("version %d of %s was taken as %s", w.tried, w.id.Short(), st.Status)
			}
		}
	}
}

// version is what the member says of a writer's record: 0 where it has none.
func version(ctx context.Context, p *probe, at protocol.Peer, id protocol.ID, timeout time.Duration) (uint64, error) {
	v, err := p.call(ctx, at, protocol.GetNodeInfo{ID: id}, timeout)
	if err != nil {
		return 0, err
	}
	if v.Command != protocol.CmdNodeInfo {
		return 0, errors.New("answered " + v.Command.String())
	}
	l, err := protocol.ParseRecordList(v.Payload)
	if err != nil || len(l.Records) == 0 {
		return 0, err
	}
	r, err := protocol.ParseRecord(l.Records[0])
	if err != nil {
		return 0, err
	}
	return r.Sequence, nil
}

// read asks every member; where all answer, one of them has what was acknowledged before.
func (s *soak) read(ctx context.Context, p *probe, r *rand.Rand) {
	for ctx.Err() == nil {
		w := s.writers[r.IntN(len(s.writers))]
		want := w.acknowledged()
		var best uint64
		silent := false
		for _, i := range r.Perm(len(s.peers)) {
			v, err := version(ctx, p, s.peers[i], w.id, 2*time.Second)
			silent = silent || err != nil
			if best = max(best, v); best >= want {
				break
			}
			s.behind.Add(1)
		}
		switch {
		case ctx.Err() != nil:
		case best < want && !silent:
			s.t.Errorf("version %d of %s was acknowledged, %d is the newest that any of all members has", want, w.id.Short(), best)
		case best < want:
			s.partial.Add(1)
		default:
			s.lookups.Add(1)
		}
		pause(ctx, 20*time.Millisecond)
	}
}

// register adds devices: the operator stores them at the super-nodes.
func (s *soak) register(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		s.add(ctx, fmt.Sprint("device-", i))
		pause(ctx, max(time.Second, *soakTime/400))
	}
}

func (s *soak) add(ctx context.Context, name string) {
	_, err := s.m.op.AddDevice(ctx, admin, operator.DeviceSpec{Name: name, Domain: "acme", Node: s.on, Ports: []string{"9100"}})
	switch {
	case err == nil:
		s.mu.Lock()
		s.devices = append(s.devices, name)
		s.mu.Unlock()
	case ctx.Err() == nil:
		s.t.Error(err)
	}
}

// list is what an app sees: every device, by an agent's own lookups.
func (s *soak) list(ctx context.Context) {
	for ctx.Err() == nil {
		l, err := s.user.api.Devices(ctx, client.DeviceQuery{Refresh: true})
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // a machine with too much to do may let every question time out
			s.t.Logf("devices while super-nodes are killed: %v", err)
			s.unlisted.Add(1)
			continue
		}
		s.mu.Lock()
		if len(l) < s.settled {
			s.t.Errorf("%d devices listed, %d were before", len(l), s.settled)
		}
		s.settled = max(s.settled, len(l))
		s.mu.Unlock()
		s.lists.Add(1)
		pause(ctx, 200*time.Millisecond)
	}
}

// judge looks for everything at the super-nodes alone, and then into their files.
func (s *soak) judge() {
	t := s.t
	var all []*agent
	for _, p := range s.supers {
		all = append(all, p.agent)
	}
	eventually(t, "every device is listed", func() bool {
		l, err := s.user.api.Devices(t.Context(), client.DeviceQuery{Refresh: true})
		return err == nil && len(l) == len(s.devices)
	})
	s.m.stop()
	lost, behind, single := 0, 0, 0
	for _, w := range s.writers {
		have := 0
		for i := range s.peers {
			var v uint64
			eventually(t, s.supers[i].name+" answers", func() (ok bool) {
				var err error
				v, err = version(t.Context(), w.probe, s.peers[i], w.id, 2*time.Second)
				return err == nil
			})
			if v >= w.safe {
				have++
			} else {
				behind++
			}
		}
		switch have {
		case 1:
			single++
		case 0:
			lost++
			t.Errorf("version %d of %s was acknowledged and nobody has it", w.safe, w.id.Short())
		}
	}
	if single > 0 {
		t.Errorf("%d versions that two had acknowledged are at one only", single)
	}
	if *soakTime >= time.Minute { // long enough for replicas to be waited for
		within(t, 3*time.Minute, "every member has every acknowledged version", func() bool {
			for _, w := range s.writers {
				for _, at := range s.peers {
					if v, err := version(t.Context(), w.probe, at, w.id, 2*time.Second); err != nil || v < w.safe {
						return false
					}
				}
			}
			return true
		})
	}
	for _, p := range s.supers {
		p.kill()
	}
	dirs := []string{s.m.opDir()}
	for _, a := range all {
		dirs = append(dirs, a.dir)
	}
	files := 0
	for _, dir := range dirs {
		dbs := must[[]string](t)(filepath.Glob(filepath.Join(dir, "*.db")))
		for _, db := range dbs {
			whole(t, db)
			files++
		}
		if l := must[[]string](t)(filepath.Glob(filepath.Join(dir, "*.corrupt-*"))); len(l) > 0 {
			t.Errorf("a database was given up: %v", l)
		}
	}
	t.Logf("%s: %d kills (%d times two at once, once all), %s without all; %d versions acknowledged at W = 2 (%d lost, %d copies behind right at the end), %d lookups, %d with a member silent, %d stale answers doubled past, %d devices registered, %d lists of them (%d more timed out); %d databases whole",
		*soakTime, s.kills, s.pairs, s.down.Round(time.Second), s.stores.Load(), lost, behind, s.lookups.Load(), s.partial.Load(), s.behind.Load(), len(s.devices), s.lists.Load(), s.unlisted.Load(), files)
	if s.kills == 0 || s.stores.Load() == 0 || s.lookups.Load() == 0 || s.lists.Load() == 0 {
		t.Error("the test did little")
	}
}

// whole checks a database that nobody has open any more.
func whole(t testing.TB, path string) {
	t.Helper()
	must[os.FileInfo](t)(os.Stat(path))
	db := must[*sql.DB](t)(sql.Open("sqlite", "file:"+path))
	defer db.Close()
	rows := must[*sql.Rows](t)(db.Query("PRAGMA integrity_check"))
	defer rows.Close()
	for rows.Next() {
		var line string
		noError(t, rows.Scan(&line))
		if line != "ok" {
			t.Errorf("%s: %s", path, line)
		}
	}
	noError(t, rows.Err())
}
