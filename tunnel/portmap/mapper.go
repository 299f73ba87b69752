package portmap

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"
)

const (
	probeTimeout   = 6 * time.Second
	openTimeout    = 10 * time.Second
	checkTimeout   = 5 * time.Second
	releaseTimeout = 3 * time.Second
	verifyTimeout  = 12 * time.Second
)

// ports are those of the protocols, and how long UPnP is searched for; tests have others.
type ports struct {
	pmp, ssdp uint16
	search    time.Duration
}

var standard = ports{pmp: 5351, ssdp: 1900, search: searchTime}

// Mapper keeps the port open at all gateways. Close it.
type Mapper struct {
	cfg    Config
	ports  ports
	ctx    context.Context
	cancel context.CancelFunc
	events chan any // to the loop; taken until done is closed
	done   chan struct{}
	work   sync.WaitGroup
	once   sync.Once

	clients map[int]client // the loop's own

	mu       sync.Mutex
	mappings []Mapping
	statuses []Status
}

// New starts a Mapper.
func New(cfg Config) (*Mapper, error) { return newMapper(cfg, standard) }

func newMapper(cfg Config, p ports) (*Mapper, error) {
	if cfg.Port == 0 || cfg.Gateways == nil || cfg.Verify == nil {
		return nil, errors.New("portmap: Port, Gateways and Verify are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Secret) == 0 {
		cfg.Secret = make([]byte, 32)
		if _, err := rand.Read(cfg.Secret); err != nil {
			return nil, err
		}
	}
	m := &Mapper{cfg: cfg, ports: p, events: make(chan any), done: make(chan struct{}), clients: make(map[int]client)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	go m.loop()
	return m, nil
}

// Mappings are the open ports through which somebody has been seen to come.
func (m *Mapper) Mappings() []Mapping {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mappings)
}

// Status says for each gateway and protocol what came of it, what serves first.
func (m *Mapper) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.statuses)
}

// NetworkChanged has Gateways read anew, and everything looked at again.
func (m *Mapper) NetworkChanged() { m.tell(evNetwork{}) }

// evNetwork is for the loop alone: Gateways is not the machine's to call.
type evNetwork struct{}

// Close deletes all mappings, for as long as ctx lasts, and returns when nothing runs any more. It may be called twice.
func (m *Mapper) Close(ctx context.Context) error {
	var err error
	m.tell(evClose{})
	select {
	case <-m.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	m.once.Do(m.cancel)
	<-m.done
	return err
}

// tell gives the loop an event, unless it has ended.
func (m *Mapper) tell(ev any) {
	select {
	case m.events <- ev:
	case <-m.ctx.Done():
	}
}

// loop carries events to the machine and what it wants done to the clients.
func (m *Mapper) loop() {
	defer close(m.done)
	defer m.work.Wait()
	defer m.cancel()
	questions, stop := context.WithCancel(m.ctx) // what changes nothing at a router is broken off by Close
	defer stop()
	steps := machine{port: m.cfg.Port}
	timer := time.NewTimer(0)
	defer timer.Stop()
	heard := make(listeners)
	defer heard.close()
	var ev any = evNetwork{}
	for {
		switch ev.(type) {
		case evNetwork:
			gws := m.cfg.Gateways()
			heard.follow(m, gws)
			m.step(questions, &steps, evGateways{gws})
			ev = evRecheck{}
		case evClose:
			stop()
		}
		m.step(questions, &steps, ev)
		if steps.done() {
			return
		}
		if next := steps.next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(next.Sub(m.cfg.Now()), 0))
		}
		select {
		case <-m.ctx.Done():
			return
		case ev = <-m.events:
		case <-timer.C:
			ev = evTick{}
		}
	}
}

func (m *Mapper) step(questions context.Context, steps *machine, ev any) {
	for _, a := range steps.step(m.cfg.Now(), ev) {
		m.do(questions, a)
	}
	proved := steps.proved()
	m.mu.Lock()
	before := m.mappings
	m.mappings, m.statuses = proved, steps.statuses()
	m.mu.Unlock()
	same := slices.EqualFunc(before, proved, func(a, b Mapping) bool {
		a.Expires = b.Expires
		return a == b
	})
	if same {
		return
	}
	for _, p := range proved {
		m.cfg.Log.Info("port is open at the router", "protocol", p.Protocol.String(), "external", p.External.String(), "by", p.By)
	}
	if len(proved) == 0 {
		m.cfg.Log.Info("port is no longer open at the router")
	}
	if m.cfg.Changed != nil {
		m.cfg.Changed(slices.Clone(proved))
	}
}

// do starts what the machine wants done. The machine asks each client for one thing at a time.
func (m *Mapper) do(questions context.Context, a action) {
	if a.do == doForget {
		delete(m.clients, a.id)
		return
	}
	if a.do == doVerify {
		m.run(questions, verifyTimeout, func(ctx context.Context) any {
			return evVerified{a.id, a.mapping.External, m.cfg.Verify(ctx, a.mapping)}
		})
		return
	}
	c := m.clients[a.id]
	if c == nil {
		c = m.client(a)
		m.clients[a.id] = c
	}
	switch a.do {
	case doProbe:
		m.run(questions, probeTimeout, func(ctx context.Context) any {
			began := time.Now()
			by, external, err := c.probe(ctx)
			return evProbed{a.id, by, external, err, time.Since(began)}
		})
	case doOpen:
		m.run(m.ctx, openTimeout, func(ctx context.Context) any {
			g, err := c.open(ctx, a.grant)
			return evOpened{a.id, g, err}
		})
	case doCheck:
		m.run(questions, checkTimeout, func(ctx context.Context) any {
			p, err := c.check(ctx, a.grant)
			return evChecked{a.id, p, err}
		})
	case doRelease:
		m.run(m.ctx, releaseTimeout, func(ctx context.Context) any {
			if err := c.release(ctx, a.grant); err != nil {
				m.cfg.Log.Info("mapping not deleted at the router; it ends with its lease", "by", a.grant.by, "error", err)
			}
			return evReleased{a.id}
		})
	}
}

// run does one thing for the machine and tells it what came of it.
func (m *Mapper) run(ctx context.Context, limit time.Duration, f func(context.Context) any) {
	m.work.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		m.tell(f(ctx))
	})
}

// client makes what speaks a protocol with a gateway.
func (m *Mapper) client(a action) client {
	asked := datagrams{a.gw, m.ports.pmp}
	search := searcher{a.gw, m.ports.ssdp, m.ports.search, onLink(a.gw)}
	switch a.kind {
	case kindPCP:
		return &pcpClient{datagrams: asked, inside: m.cfg.Port, secret: m.cfg.Secret}
	case kindPMP:
		return &pmpClient{datagrams: asked, inside: m.cfg.Port}
	case kindUPnP:
		return &upnpClient{searcher: search, inside: m.cfg.Port}
	}
	return &pinholeClient{searcher: search, inside: m.cfg.Port}
}
