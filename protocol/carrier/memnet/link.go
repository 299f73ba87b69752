package memnet

import "time"

// Link is the line between a host, or a NAT's outside, and its realm, in both directions. A
// datagram pays for its sender's link, its receiver's, and those of the NATs between. The zero
// Link is perfect.
type Link struct {
	Latency   time.Duration // of every datagram
	Jitter    time.Duration // up to this much more, without overtaking
	Loss      float64       // share of datagrams that vanish
	Duplicate float64       // share that arrives twice
	Reorder   float64       // share that is held back, so that later ones overtake it
}

func (l *Link) instant() bool { return l.Latency == 0 && l.Jitter == 0 && l.Reorder == 0 }

// line is a Link in use.
type line struct {
	Link
	up, down time.Duration // when the last datagram of each direction arrives
}

// cross sends p, whose next stop is set, over one direction of l.
func (n *Net) cross(l *Link, last *time.Duration, p *packet) {
	if l.Loss > 0 && n.rand.Float64() < l.Loss {
		n.end(lost, p)
		return
	}
	if l.Duplicate > 0 && n.rand.Float64() < l.Duplicate {
		n.note(duplicated, p)
		n.travel(l, last, n.clone(p))
	}
	n.travel(l, last, p)
}

func (n *Net) travel(l *Link, last *time.Duration, p *packet) {
	// A receiver's callback never runs inside its sender's Send.
	if l.instant() && p.stop != atHost {
		n.proceed(p)
		return
	}
	at := n.now + l.Latency
	if l.Jitter > 0 {
		at += time.Duration(n.rand.Int64N(int64(l.Jitter) + 1))
	}
	if l.Reorder > 0 && n.rand.Float64() < l.Reorder {
		at += l.Latency + l.Jitter + time.Millisecond
	} else {
		at = max(at, *last)
		*last = at
	}
	n.queue.push(event{at: at, packet: p})
}
