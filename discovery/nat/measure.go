package nat

import (
	"io"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
)

const (
	// MaxServers is how many servers are asked.
	MaxServers = 3
	// MeasureTime bounds a measurement.
	MeasureTime = 4500 * time.Millisecond

	spacing     = 10 * time.Millisecond // between datagrams whose order at the NAT matters
	fallback    = 500 * time.Millisecond
	hopTries    = 3
	carrierHops = 2
)

// Config is what a measurement starts from.
type Config struct {
	Servers  []Server     // the first MaxServers are asked; best with addresses of their own
	Own      []netip.Addr // addresses of this machine, without loopback unless the node listens there alone
	Port     uint16       // of the node's own socket
	Observed []Vote       // how servers said, in authenticated messages, that they see the node's own socket
	External []netip.Addr // the router's outside addresses, as it tells by UPnP, NAT-PMP or PCP
	Hops     bool         // ActionHop can be done
	Rand     io.Reader
}

// Measure is one measurement. It is for one goroutine.
type Measure struct {
	cfg      Config
	began    time.Time
	families [2]*family
	asks     int
	hop      hopState
	done     bool
	report   Report
	out      []Action
}

type hopState struct {
	tries   int
	waiting bool
	over    bool
	answer  Tri
	id      Transaction
}

var _ Machine = (*Measure)(nil)

// NewMeasure makes a measurement; the first Step starts it.
func NewMeasure(cfg Config) *Measure {
	cfg.Servers = slices.Clone(cfg.Servers[:min(len(cfg.Servers), MaxServers)])
	return &Measure{cfg: cfg}
}

// Report is the result, once ActionDone was returned.
func (m *Measure) Report() Report { return m.report }

// Step implements Machine.
func (m *Measure) Step(now time.Time, e Event) []Action {
	m.out = nil
	if m.done {
		return nil
	}
	if m.began.IsZero() {
		m.start(now)
	}
	switch e.Kind {
	case HopSeen:
		m.hopSeen(e)
	case Asked, Opened, Received:
		for _, f := range m.families {
			if f != nil {
				f.event(now, e)
			}
		}
	}
	m.proceed(now)
	return m.out
}

// Next implements Machine.
func (m *Measure) Next() time.Time {
	if m.done || m.began.IsZero() {
		return time.Time{}
	}
	next := m.began.Add(MeasureTime)
	for _, f := range m.families {
		if f != nil {
			next = f.next(next)
		}
	}
	return next
}

func (m *Measure) start(now time.Time) {
	m.began = now
	for i, v6 := range []bool{false, true} {
		if m.has(v6) {
			m.families[i] = newFamily(m, now, v6)
		}
	}
	if _, err := io.ReadFull(m.cfg.Rand, m.hop.id[:]); err != nil {
		m.hop.over = true
	}
	m.hop.over = m.hop.over || !m.cfg.Hops || m.families[0] == nil
}

// has reports whether there is anything to ask in a family, and an address to ask from.
func (m *Measure) has(v6 bool) bool {
	own := func(a netip.Addr) bool { return a.Is6() == v6 && !a.IsLinkLocalUnicast() }
	server := func(s Server) bool { return s.addr(v6).IsValid() }
	return slices.ContainsFunc(m.cfg.Own, own) && slices.ContainsFunc(m.cfg.Servers, server)
}

func (m *Measure) do(a Action) { m.out = append(m.out, a) }

func (m *Measure) nextAsk() int {
	m.asks++
	return m.asks
}

func (m *Measure) proceed(now time.Time) {
	over := true
	for _, f := range m.families {
		if f != nil {
			f.proceed(now)
			over = over && f.over
		}
	}
	m.stepHop()
	if over = over && m.hop.over; !over && now.Before(m.began.Add(MeasureTime)) {
		return
	}
	m.finish(now)
}

// stepHop asks who is the second router on the way out, by the first server that answered.
func (m *Measure) stepHop() {
	h, f := &m.hop, m.families[0]
	if h.over || h.waiting {
		return
	}
	q := f.firstAnswer()
	switch {
	case h.tries == hopTries || q == nil && f.asked():
		h.over = true
	case q != nil:
		h.waiting = true
		h.tries++
		m.do(Action{Kind: ActionHop, To: q.to, Hops: carrierHops, Data: Request(h.id)})
	}
}

func (m *Measure) hopSeen(e Event) {
	if !m.hop.waiting {
		return
	}
	m.hop.waiting = false
	switch hop := e.Hop.Unmap(); {
	case e.Reached:
		m.hop.answer = No
	case hop.IsValid():
		m.hop.answer = tri(inside(hop))
	default:
		return
	}
	m.hop.over = true
}

func (m *Measure) finish(now time.Time) {
	m.done = true
	r := &m.report
	r.At = now
	for i, f := range m.families {
		if f == nil {
			continue
		}
		*[]*Family{&r.V4, &r.V6}[i] = f.result()
		r.Servers = append(r.Servers, f.seen()...)
		for s := range f.sockets {
			m.do(Action{Kind: ActionClose, Socket: f.socket(s)})
		}
	}
	asked := m.families[0] != nil || m.families[1] != nil
	switch {
	case r.Works() || len(m.cfg.Observed) > 0:
		r.UDP = Yes
	case asked:
		r.UDP = No
	}
	r.Carrier = m.carrier()
	m.do(Action{Kind: ActionDone})
}

// carrier judges whether the provider translates, by the surest sign first.
func (m *Measure) carrier() Tri {
	v4 := &m.report.V4
	if v4.NAT == No {
		return No
	}
	for _, a := range m.cfg.Own {
		if a.Is4() && shared.Contains(a) {
			return Yes
		}
	}
	for _, a := range m.cfg.External {
		if a = a.Unmap(); !a.Is4() || a.IsUnspecified() {
			continue
		}
		if v4.Mapped.IsValid() && a == v4.Mapped.Addr() {
			return No
		}
		if inside(a) {
			return Yes
		}
	}
	return m.hop.answer
}

// votes are what servers said about one socket of a family.
func (f *family) votes(socket int) (l []Vote) {
	for _, q := range f.queries {
		if q.socket == socket && q.mapped.IsValid() {
			s := f.m.cfg.Servers[q.server]
			l = append(l, Vote{s.ID, s.Trusted, q.mapped})
		}
	}
	return l
}

func (f *family) seen() (l []Seen) {
	for _, q := range f.queries {
		if q.socket == 0 {
			s := f.m.cfg.Servers[q.server]
			l = append(l, Seen{Server: s.ID, Addr: q.to, Mapped: q.mapped, RTT: q.rtt, Trusted: s.Trusted})
		}
	}
	return l
}

// result judges what was heard.
func (f *family) result() (r Family) {
	r.Works = f.firstAnswer() != nil
	observed := slices.DeleteFunc(slices.Clone(f.m.cfg.Observed), func(v Vote) bool { return v.Addr.Addr().Is6() != f.v6 })
	r.Mapped, _ = Agree(append(observed, f.votes(0)...))
	if !r.Works {
		return r
	}
	r.NAT = f.translated()
	r.Filtering = f.filtering()
	r.Hairpin = f.hairpin.answer
	if r.NAT == No {
		r.Mapping = protocol.MappingIndependent
		return r
	}
	samples := f.samples()
	r.Mapping, r.Step = mappingOf(samples)
	if r.Mapping == protocol.MappingSequential {
		r.Last = newest(samples, r.Step)
	}
	return r
}
