package nat

import (
	"io"
	"net/netip"
	"slices"
	"time"

	"culvert/protocol"
)

// retries are the pauses after which a question is sent again; after the last one it is given up.
var retries = [...]time.Duration{200, 400, 600, 700, 600} // ms

// query is one STUN transaction.
type query struct {
	id     Transaction
	socket int
	server int
	to     netip.AddrPort
	next   time.Time // when to send, again or give up
	sent   time.Time
	tries  int
	over   bool
	mapped netip.AddrPort
	rtt    time.Duration
}

// due sends the query if it is time to; the data is made anew each time, so that the driver may keep it.
func (q *query) due(now time.Time) (Action, bool) {
	if q.over || now.Before(q.next) {
		return Action{}, false
	}
	if q.tries == len(retries) {
		q.over = true
		return Action{}, false
	}
	q.next, q.sent = now.Add(retries[q.tries]*time.Millisecond), now
	q.tries++
	return Action{Kind: ActionSend, Socket: q.socket, To: q.to, Data: Request(q.id)}, true
}

// answered takes in a response; one that comes late, or from elsewhere, is none.
func (q *query) answered(now time.Time, e Event, r Response) bool {
	if q.over || q.tries == 0 || r.ID != q.id || e.Socket != q.socket || unmap(e.From) != q.to || r.Mapped.Addr().Is4() != q.to.Addr().Is4() {
		return false
	}
	q.over, q.mapped, q.rtt = true, r.Mapped, max(now.Sub(q.sent), 1)
	return true
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

const (
	askTries = 4
	// probeWait is for how long a probe may be under way once the server says that it has been sent.
	probeWait = 350 * time.Millisecond
)

// ask is a question for reach probes, put again until one has arrived or enough have been sent.
type ask struct {
	id     int // of the question under way, 0 for none
	server int
	to     netip.AddrPort
	addr   netip.AddrPort
	other  bool
	nonces [][16]byte // of all tries: a slow probe is as good as any
	next   time.Time
	tries  int
	sent   int // that the server says it has sent
	over   bool
	came   bool
	odd    bool // a probe came from where none was to come from
}

// due puts the question if it is time to.
func (a *ask) due(now time.Time, id func() int, random io.Reader, server protocol.ID) (Action, bool) {
	if a.over || a.id != 0 || now.Before(a.next) {
		return Action{}, false
	}
	if a.tries == askTries {
		a.over = true
		return Action{}, false
	}
	var nonce [16]byte
	if _, err := io.ReadFull(random, nonce[:]); err != nil {
		a.over = true
		return Action{}, false
	}
	a.tries++
	a.id = id()
	a.nonces = append(a.nonces, nonce)
	return Action{Kind: ActionAsk, Ask: a.id, Server: server, To: a.to, Addr: a.addr, Other: a.other, Nonce: nonce}, true
}

// asked takes in what became of the question under way.
func (a *ask) asked(now time.Time, e Event) bool {
	if a.id == 0 || a.id != e.Ask {
		return false
	}
	a.id, a.next = 0, now.Add(probeWait)
	if e.Sent {
		a.sent++
	}
	return true
}

// probe takes in a reach probe that came to the socket asked for. It counts from where it was to come only: from the address
// that was asked, or from another port of its host; else a server could have it sent by one that has been written to.
func (a *ask) probe(nonce [16]byte, from netip.AddrPort) bool {
	if !slices.Contains(a.nonces, nonce) {
		return false
	}
	if from = unmap(from); from.Addr() != a.to.Addr() || (from == a.to) == a.other {
		a.odd = true
		return false
	}
	a.came, a.over = true, true
	return true
}

// silent reports whether enough was sent to conclude that nothing gets in.
func (a *ask) silent() bool { return a.over && !a.came && !a.odd && a.sent >= 2 }
