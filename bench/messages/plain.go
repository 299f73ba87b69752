package messages

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"

	"culvert/protocol/carrier"
)

// echoSize is a datagram of the plain and of the sealed echo.
const echoSize = 200

// errBytes is an answer with other bytes than were sent.
var errBytes = errors.New("other bytes came back")

// pending is what is under way in an echo: numbers, each answered once. No more than its places are under way at a time.
type pending struct {
	next   uint64
	places [4 * Deep]uint64 // a number at itself modulo their count, 0: it was answered
	open   int
}

func (p *pending) take() uint64 {
	p.next++
	p.places[p.next%uint64(len(p.places))] = p.next
	p.open++
	return p.next
}

// done is 1 for the first answer to n, 0 for one that was given up.
func (p *pending) done(n uint64) int {
	at := &p.places[n%uint64(len(p.places))]
	if n == 0 || *at != n {
		return 0
	}
	*at = 0
	p.open--
	return 1
}

func (p *pending) overdue(_ time.Time, silent time.Duration) int {
	if silent < giveUp {
		return 0
	}
	n := p.open
	p.abandon()
	return n
}

func (p *pending) abandon() {
	clear(p.places[:])
	p.open = 0
}

// plainAsker sends a number and a pattern, and wants both back.
type plainAsker struct {
	outbox
	pending
	to netip.AddrPort
}

func (a *plainAsker) ask(time.Time) error {
	m, n := a.outbox.next(), a.take()
	binary.BigEndian.PutUint64(m.Buf, n)
	m.Buf[echoSize-1] = byte(n)
	m.Addr, m.N = a.to, echoSize
	return nil
}

func (a *plainAsker) answer(_ time.Time, m *carrier.Message) (int, error) {
	if m.N != echoSize {
		return 0, errBytes
	}
	n := binary.BigEndian.Uint64(m.Buf)
	if m.Buf[echoSize-1] != byte(n) {
		return 0, errBytes
	}
	return a.done(n), nil
}
