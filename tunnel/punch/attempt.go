package punch

import (
	"context"
	"time"
)

// attempt carries for one machine. Its loop owns the further sockets and their readers.
type attempt struct {
	all     *Meetings
	pair    uint64
	begun   time.Time
	inbox   chan Packet
	result  chan result // for one
	machine *Machine
	sockets []*socket // the further ones, numbered from 1
	winner  *socket   // handed over: no longer this attempt's
	freed   bool      // the others are closed
	counted Stats     // as far as it is in the node's counters
}

type result struct {
	path Path
	err  error
}

// run ends when the machine is done, the context before a path is found, or the node.
func (a *attempt) run(ctx context.Context, answer <-chan Side) {
	defer a.all.ended(a)
	timer := time.NewTimer(0)
	defer timer.Stop()
	given := ctx.Done()
	for {
		var e Event = Tick{}
		select {
		case <-timer.C:
		case p := <-a.inbox:
			e = p
		case side, ok := <-answer:
			answer = nil
			if !ok {
				a.fail(ErrNoAnswer)
				return
			}
			e = Answer{side}
		case <-given:
			a.fail(context.Cause(ctx))
			return
		case <-a.all.closing:
			a.fail(ErrClosed)
			return
		}
		for e != nil {
			act := a.machine.Step(time.Now(), e)
			e = a.perform(act)
			if act.Found != nil {
				given, answer = nil, nil // the caller has its path, and may well end its context
			}
			if act.Done {
				return
			}
			timer.Reset(time.Until(act.Next))
		}
	}
}

// perform does what the machine says, and returns what follows from it at once.
func (a *attempt) perform(act Actions) (next Event) {
	if f := act.Found; f != nil && f.Socket > 0 {
		a.winner = a.sockets[f.Socket-1]
		a.winner.stop() // before the other side knows: what it sends from then on is the caller's
	}
	for _, s := range act.Send {
		a.send(s)
	}
	if act.Open > 0 {
		a.open(act.Open)
		next = Opened{len(a.sockets)}
	}
	a.count()
	if act.Failed != nil {
		a.fail(act.Failed)
	}
	if act.Found != nil {
		a.closeSockets()
		a.all.found.Add(1)
		p := a.path()
		p.Main, p.Remote, p.RTT = a.winner == nil, act.Found.Remote, act.Found.RTT
		if a.winner != nil {
			p.Conn = &conn{udp: a.winner.udp, attempt: a, number: act.Found.Socket}
		}
		a.result <- result{path: p}
	}
	return next
}

func (a *attempt) path() Path {
	return Path{Took: time.Since(a.begun), Packets: a.machine.Stats().Sent}
}

// fail tells the caller, unless it has its path already.
func (a *attempt) fail(err error) {
	if a.freed {
		return
	}
	a.closeSockets()
	a.all.failed.Add(1)
	a.result <- result{a.path(), err}
}

// send sends as far as the node's limit allows.
func (a *attempt) send(s Send) {
	if !a.all.limit.Allow() {
		a.all.limited.Add(1)
		return
	}
	var err error
	if s.Socket == 0 {
		err = a.all.main.Send(s.To, s.Bytes)
	} else {
		_, err = a.sockets[s.Socket-1].udp.WriteToUDPAddrPort(s.Bytes, s.To)
	}
	if err != nil {
		a.all.unsent.Add(1)
	} else {
		a.all.sent.Add(1)
	}
}

// count adds what the machine has refused to the node's counters.
func (a *attempt) count() {
	s := a.machine.Stats()
	a.all.invalid.Add(int64(s.Invalid + s.Crowded - a.counted.Invalid - a.counted.Crowded))
	a.counted = s
}
