package nat

import (
	"io"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
)

// freshSockets of a family: one on which little is sent, so that it shows what gets in, and two that ask everybody.
const freshSockets = 3

// family measures one address family. Its sockets are 0, the node's own, and its fresh ones.
type family struct {
	m       *Measure
	v6      bool
	sockets [freshSockets]socketState
	queries []*query
	asks    []*ask
	filter  bool // the questions for reach probes have been put together
	hairpin hairpin
	over    bool
}

type socketState struct {
	told bool
	port uint16 // 0: it could not be opened
}

// hairpin has two fresh sockets write to each other's outside address.
type hairpin struct {
	started bool
	over    bool
	tries   int
	next    time.Time
	to      [2]netip.AddrPort // of fresh socket 1 and 2
	nonces  [2][16]byte
	answer  Tri
}

func newFamily(m *Measure, now time.Time, v6 bool) *family {
	f := &family{m: m, v6: v6}
	for i := range f.sockets {
		m.do(Action{Kind: ActionOpen, Socket: f.socket(i), V6: v6})
	}
	at := now
	add := func(socket, server int, at time.Time) {
		if to := m.cfg.Servers[server].addr(v6); to.IsValid() {
			f.query(socket, server, at)
		}
	}
	for s := range m.cfg.Servers {
		add(0, s, now)
	}
	// The socket for filtering writes to the last in the list first, so that the strangers are the first: super-nodes, since
	// operators come last.
	if s := f.servers(); len(s) > 0 {
		at = at.Add(spacing)
		add(f.socket(0), s[len(s)-1], at)
	}
	for i := 1; i < freshSockets; i++ {
		for s := range m.cfg.Servers {
			at = at.Add(spacing)
			add(f.socket(i), s, at)
		}
	}
	return f
}

// socket is the number of a fresh socket.
func (f *family) socket(i int) int {
	if f.v6 {
		return 1 + freshSockets + i
	}
	return 1 + i
}

// servers are those with an address in this family.
func (f *family) servers() (l []int) {
	for s := range f.m.cfg.Servers {
		if f.m.cfg.Servers[s].addr(f.v6).IsValid() {
			l = append(l, s)
		}
	}
	return l
}

func (f *family) query(socket, server int, at time.Time) {
	q := &query{socket: socket, server: server, to: f.m.cfg.Servers[server].addr(f.v6), next: at}
	if _, err := io.ReadFull(f.m.cfg.Rand, q.id[:]); err == nil {
		f.queries = append(f.queries, q)
	}
}

func (f *family) event(now time.Time, e Event) {
	switch e.Kind {
	case Opened:
		for i := range f.sockets {
			if f.socket(i) == e.Socket {
				f.sockets[i] = socketState{true, e.Port}
			}
		}
	case Asked:
		for _, a := range f.asks {
			if a.asked(now, e) {
				return
			}
		}
	case Received:
		if len(e.Data) == 0 {
			return
		}
		if e.Data[0] == protocol.TypeProbe {
			f.probe(e)
			return
		}
		r, err := ParseResponse(e.Data)
		if err != nil {
			return
		}
		for _, q := range f.queries {
			if q.answered(now, e, r) {
				return
			}
		}
	}
}

func (f *family) probe(e Event) {
	nonce, err := protocol.ParseReachProbe(e.Data)
	if err != nil {
		return
	}
	if e.Socket == f.socket(0) {
		for _, a := range f.asks {
			if a.probe(nonce, e.From) {
				return
			}
		}
	}
	for i, n := range f.hairpin.nonces {
		if f.hairpin.started && e.Socket == f.socket(2-i) && n == nonce { // sent by the other one
			f.hairpin.answer, f.hairpin.over = Yes, true
		}
	}
}

func (f *family) proceed(now time.Time) {
	for _, q := range f.queries {
		if !f.usable(q.socket) {
			q.over = q.over || f.failed(q.socket)
			continue
		}
		if a, ok := q.due(now); ok {
			f.m.do(a)
		}
	}
	f.proceedFilter(now)
	f.proceedHairpin(now)
	f.over = f.asked() && f.filter && f.hairpin.over &&
		(f.reached() || !slices.ContainsFunc(f.asks, func(a *ask) bool { return !a.over }))
}

// usable reports whether a socket is there.
func (f *family) usable(socket int) bool {
	for i, s := range f.sockets {
		if f.socket(i) == socket {
			return s.port != 0
		}
	}
	return socket == 0
}

func (f *family) failed(socket int) bool {
	for i, s := range f.sockets {
		if f.socket(i) == socket {
			return s.told && s.port == 0
		}
	}
	return false
}

// asked reports whether all STUN questions have ended.
func (f *family) asked() bool {
	return !slices.ContainsFunc(f.queries, func(q *query) bool { return !q.over })
}

func (f *family) firstAnswer() *query {
	i := slices.IndexFunc(f.queries, func(q *query) bool { return q.mapped.IsValid() })
	if i < 0 {
		return nil
	}
	return f.queries[i]
}

// proceedFilter puts the questions for reach probes once the socket's outside address is known. A server that does not answer
// is replaced by the one before it, as long as there remain others that have not been written to.
func (f *family) proceedFilter(now time.Time) {
	if !f.filter {
		mine := f.mine()
		known := slices.IndexFunc(mine, func(q *query) bool { return q.mapped.IsValid() })
		servers := f.servers()
		at, more := f.fallbackAt()
		switch {
		case known >= 0:
			f.filter = true
			f.askAll(mine, mine[known])
		case more && !now.Before(at):
			f.query(f.socket(0), servers[len(servers)-1-len(mine)], now)
			if a, ok := f.queries[len(f.queries)-1].due(now); ok {
				f.m.do(a)
			}
		case !slices.ContainsFunc(mine, func(q *query) bool { return !q.over }) && (len(mine) == len(servers) || f.failed(f.socket(0))):
			f.filter = true // nothing to be found out
		}
	}
	if f.reached() {
		return
	}
	for _, a := range f.asks {
		if act, ok := a.due(now, f.m.nextAsk, f.m.cfg.Rand, f.m.cfg.Servers[a.server].ID); ok {
			f.m.do(act)
		}
	}
}

// askAll puts together the questions to servers that the socket has not written to, and to the one that answered it.
func (f *family) askAll(mine []*query, known *query) {
	for _, s := range f.servers() {
		if !slices.ContainsFunc(mine, func(q *query) bool { return q.server == s }) {
			f.asks = append(f.asks, &ask{server: s, to: f.m.cfg.Servers[s].addr(f.v6), addr: known.mapped})
		}
	}
	f.asks = append(f.asks, &ask{server: known.server, to: known.to, addr: known.mapped, other: true})
}

// reached reports whether a server got in that had not been written to: then nothing else matters.
func (f *family) reached() bool {
	return slices.ContainsFunc(f.asks, func(a *ask) bool { return a.came && !a.other })
}

func (f *family) filtering() Filtering {
	if f.reached() {
		return FilteringIndependent
	}
	var other *ask
	strangers, refused := 0, 0
	for _, a := range f.asks {
		switch {
		case a.other:
			other = a
		case a.silent():
			strangers++
			refused++
		default:
			strangers++
		}
	}
	if other == nil || strangers > 0 && refused == 0 {
		return FilteringUnknown
	}
	switch {
	case other.came:
		return FilteringAddress // where there was nobody else to ask: at least that much gets in
	case other.silent():
		return FilteringPort
	}
	return FilteringUnknown
}

// proceedHairpin waits until the fresh sockets' ports are known, so as not to disturb their sequence.
func (f *family) proceedHairpin(now time.Time) {
	h := &f.hairpin
	if h.over || !f.asked() {
		return
	}
	if !h.started {
		h.started = true
		a, sure := Agree(f.votes(f.socket(1)))
		b, sure2 := Agree(f.votes(f.socket(2)))
		var err error
		for i := range h.nonces {
			if _, e := io.ReadFull(f.m.cfg.Rand, h.nonces[i][:]); e != nil {
				err = e
			}
		}
		h.to, h.next = [2]netip.AddrPort{b, a}, now
		h.over = err != nil || !sure || !sure2 || f.translated() != Yes
	}
	if h.over || now.Before(h.next) {
		return
	}
	if h.tries == 3 {
		h.over, h.answer = true, No
		return
	}
	h.tries++
	h.next = now.Add(200 * time.Millisecond)
	for i, to := range h.to {
		f.m.do(Action{Kind: ActionSend, Socket: f.socket(i + 1), To: to, Data: protocol.AppendReachProbe(nil, h.nonces[i])})
	}
}

// next is when this family has something to do, if that is before t.
func (f *family) next(t time.Time) time.Time {
	sooner := func(at time.Time, when bool) {
		if when && at.Before(t) {
			t = at
		}
	}
	for _, q := range f.queries {
		sooner(q.next, !q.over && f.usable(q.socket))
	}
	for _, a := range f.asks {
		sooner(a.next, !a.over && a.id == 0 && !f.reached())
	}
	sooner(f.hairpin.next, f.hairpin.started && !f.hairpin.over)
	if at, ok := f.fallbackAt(); ok {
		sooner(at, true)
	}
	return t
}

// mine are the questions of the socket for filtering.
func (f *family) mine() (l []*query) {
	for _, q := range f.queries {
		if q.socket == f.socket(0) {
			l = append(l, q)
		}
	}
	return l
}

// fallbackAt is when the socket for filtering writes to one more server; the last stranger is only written to when nobody else
// answers.
func (f *family) fallbackAt() (time.Time, bool) {
	mine, servers := f.mine(), len(f.servers())
	n := len(mine)
	at := f.m.began.Add(time.Duration(n) * fallback)
	if n == servers-1 {
		if slices.ContainsFunc(mine, func(q *query) bool { return !q.over }) {
			return at, false
		}
		at = f.m.began
	}
	return at, !f.filter && n > 0 && n < servers && f.usable(f.socket(0))
}
