package punch

import (
	"slices"
	"time"
)

// advance does all that is due.
func (m *Machine) advance(now time.Time) {
	switch {
	case m.found:
		m.over = !now.Before(m.chosenAt.Add(lingerTime))
	case m.chosen != nil:
		m.choose(now)
	case m.met.IsZero() && !now.Before(m.start.Add(answerTime)):
		m.fail(ErrNoAnswer)
	case !m.met.IsZero() && !now.Before(m.deadline()):
		m.fail(m.why())
	case m.Requester && m.ripe(now):
		m.chosen = m.best(now)
		m.chosenAt, m.chooseAt = now, now
		m.choose(now)
	default:
		m.plain(now)
		m.wide(now)
	}
}

// deadline: the tunnel-node gives the requester time to choose.
func (m *Machine) deadline() time.Time {
	d := m.met.Add(m.plan.lasts())
	if !m.Requester && !m.proven.IsZero() {
		d = d.Add(chooseTime)
	}
	return d
}

// ripe reports whether it is time to choose: at once a path that no other can beat, others after the window.
func (m *Machine) ripe(now time.Time) bool {
	b := m.best(now)
	return b != nil && (m.class(b) == 0 || !now.Before(m.proven.Add(chooseWindow)))
}

// choose repeats the requester's choice until it is confirmed.
func (m *Machine) choose(now time.Time) {
	if !now.Before(m.chosenAt.Add(chooseTime)) {
		m.fail(ErrPathDied)
		return
	}
	if !now.Before(m.chooseAt) {
		m.chooseAt = now.Add(plainEvery)
		m.send(now, m.chosen.socket, m.chosen.remote, false, true)
	}
}

// plain sends to every candidate and over every path.
func (m *Machine) plain(now time.Time) {
	if now.Before(m.plainAt) {
		return
	}
	m.plainAt = now.Add(plainEvery)
	for _, a := range m.targets {
		m.send(now, 0, a, true, false)
	}
	for _, p := range m.paths {
		if now.Sub(p.heard) < pathLife && (p.socket != 0 || !slices.Contains(m.targets, p.remote)) {
			m.send(now, p.socket, p.remote, true, false)
		}
	}
}

// wide is what is done besides plain packets, while no path carries both ways.
func (m *Machine) wide(now time.Time) {
	switch {
	case m.met.IsZero() || m.settled(now) || now.Before(m.met.Add(m.plan.after)):
	case m.plan.role == hard:
		if n := m.wanted(now); n > m.asked {
			m.out.Open = n - m.asked
			m.asked = n
		}
		m.holes(now)
	case m.probes != nil:
		m.probe(now)
	}
}

// wanted is how many sockets the hard side should have now.
func (m *Machine) wanted(now time.Time) int {
	if m.plan.foreseen && now.Before(m.foreseenEnd()) {
		return fewSockets
	}
	return wideSockets
}

func (m *Machine) foreseenEnd() time.Time { return m.met.Add(m.plan.after + aheadRounds*aheadRound) }

// holes has each further socket send in its turn.
func (m *Machine) holes(now time.Time) {
	for range mostBurst {
		if m.sockets == 0 || now.Before(m.holeAt) {
			return
		}
		if m.holed >= m.sockets {
			if now.Before(m.nextTurn()) {
				return
			}
			m.holed = 0
		}
		if m.holed == 0 {
			m.turn, m.holeAt = now, now
		}
		m.holed++
		m.send(now, m.holed, m.hole, true, false)
		m.holeAt = m.holeAt.Add(holeEvery)
	}
	m.holeAt = later(m.holeAt, now.Add(holeEvery)) // a late loop does not make a burst
}

// nextTurn is when the sockets, all of which have sent, send again.
func (m *Machine) nextTurn() time.Time {
	if m.sockets <= fewSockets {
		return m.turn.Add(fewRepeat)
	}
	return m.turn.Add(holeRepeat)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// probe sends to the ports that are due.
func (m *Machine) probe(now time.Time) {
	for range mostBurst {
		if m.probes.spent() || now.Before(m.probes.next) {
			return
		}
		m.stats.Probes++
		m.send(now, 0, m.probes.take(), true, false)
	}
	m.probes.next = later(m.probes.next, now.Add(probeEvery))
}

// why is the reason that most helps a person.
func (m *Machine) why() error {
	switch {
	case !m.proven.IsZero():
		return ErrNotChosen
	case len(m.paths) > 0:
		return ErrOneWay
	case m.plan.role == hopeless || m.plan.role == mutual:
		return ErrBothHard
	case m.plan.role == hard && m.sockets == 0:
		return ErrSockets
	case m.plan.role == hard || m.plan.role == easy:
		return ErrNotFound
	case len(m.targets) == 0:
		return ErrNoAddress
	}
	return ErrSilent
}

// next is when something is due.
func (m *Machine) next(now time.Time) time.Time {
	if m.found {
		return m.chosenAt.Add(lingerTime)
	}
	if m.chosen != nil {
		return m.chooseAt
	}
	t := m.plainAt
	sooner := func(o time.Time) {
		if o.Before(t) {
			t = o
		}
	}
	if m.met.IsZero() {
		sooner(m.start.Add(answerTime))
		return t
	}
	sooner(m.deadline())
	if m.Requester && !m.proven.IsZero() && now.Before(m.proven.Add(chooseWindow)) {
		sooner(m.proven.Add(chooseWindow))
	}
	if m.settled(now) {
		return t
	}
	switch {
	case m.plan.role == hard && m.asked == 0:
		sooner(m.met.Add(m.plan.after))
	case m.plan.role == hard && m.sockets > 0:
		if m.holed < m.sockets {
			sooner(m.holeAt)
		} else {
			sooner(m.nextTurn())
		}
	case m.probes != nil && !m.probes.spent():
		sooner(m.probes.next)
	}
	return t
}
