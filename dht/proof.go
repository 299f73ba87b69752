package dht

import (
	"fmt"
	"slices"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

const (
	// proofWindow is how many parts a Proof compares at once, proofTasks how many it remembers.
	proofWindow = 4
	proofTasks  = 256
	// proofPause lies between two looks at a small part that differs: what was passed on is on its way, or comes by repair.
	proofPause = time.Second
)

// ProofConfig is what a Proof compares.
type ProofConfig struct {
	Filler  protocol.Peer
	Servers []protocol.Peer // each serves all of Range
	Range   partition.Range
	Epoch   uint64 // answers by older maps prove nothing
	Static  bool   // only what operators sign
}

// Proof finds out for an operator whether a member holds what the servers of a range hold, as a step machine. It asks both
// sides for the digests of the same part. Stores go on meanwhile, so a busy part may differ at any moment: it is cut finer,
// and a part is proven once both have said the same of it. What comes later is passed on to the filler, and repaired.
//
// It has ended when every server has agreed on every part, or has been silent, and then it has proven something if one has
// agreed; or when the filler is silent. It goes on for as long as they differ: its owner gives up when he likes.
type Proof struct {
	cfg    ProofConfig
	tasks  []*proofTask
	asked  map[int]proofAsk
	next   int
	active int
	fails  []int // in a row, of each server and, last, of the filler
	begun  bool
	ended  bool
	when   time.Time
}

type proofTask struct {
	table   protocol.Table
	rng     partition.Range
	servers []int // who has not agreed yet
	answers map[int][]protocol.DigestPart
	waiting int
	at      time.Time
}

type proofAsk struct {
	task *proofTask
	who  int
}

// NewProof starts with EventTick.
func NewProof(cfg ProofConfig) *Proof {
	return &Proof{cfg: cfg, asked: make(map[int]proofAsk), fails: make([]int, len(cfg.Servers)+1)}
}

// Done reports whether it has ended.
func (p *Proof) Done() bool { return p.ended }

// Deadline is when to step next though nothing happens.
func (p *Proof) Deadline() time.Time { return p.when }

// Open is how many parts have not been proven yet, the finer the more.
func (p *Proof) Open() int { return len(p.tasks) + p.active }

// Result is nil once the range is proven.
func (p *Proof) Result() error {
	filler := len(p.cfg.Servers)
	switch {
	case !p.ended:
		return fmt.Errorf("dht: %s still differs in %d parts", p.cfg.Filler.ID.Short(), p.Open())
	case p.silent(filler):
		return fmt.Errorf("%w: %s", ErrUnreachable, p.cfg.Filler.ID.Short())
	}
	for i := range p.cfg.Servers {
		if !p.silent(i) {
			return nil
		}
	}
	return fmt.Errorf("%w: none of %d that serve the range", ErrUnreachable, len(p.cfg.Servers))
}

func (p *Proof) silent(who int) bool { return p.fails[who] >= repairTries }

// Step takes one event: EventTick to begin and whenever the Deadline has come, then an answer or failure for each ask.
func (p *Proof) Step(now time.Time, e Event) []Action {
	if p.ended {
		return nil
	}
	switch e.Kind {
	case EventTick:
		if !p.begun {
			p.begun = true
			all := make([]int, len(p.cfg.Servers))
			for i := range all {
				all[i] = i
			}
			for _, t := range ranged {
				if p.cfg.Static && t == protocol.TableNodeInfo {
					continue
				}
				p.tasks = append(p.tasks, &proofTask{table: t, rng: p.cfg.Range, servers: all, at: now})
			}
		}
	case EventAnswer, EventFailed:
		a, ok := p.asked[e.Tag]
		if !ok {
			return nil
		}
		delete(p.asked, e.Tag)
		p.took(a, e)
		if a.task.waiting--; a.task.waiting == 0 {
			p.active--
			p.settle(now, a.task)
		}
	}
	return p.start(now)
}

func (p *Proof) took(a proofAsk, e Event) {
	if e.Kind == EventFailed {
		p.fails[a.who]++
		return
	}
	p.fails[a.who] = 0
	d, err := protocol.ParsePayload[protocol.Digests](e.Payload)
	want := a.task.rng.Split(digestParts)
	if err != nil || e.Command != protocol.CmdDigests || d.Epoch < p.cfg.Epoch || len(d.Parts) != len(want) {
		return // it does not go by the map yet, or talks nonsense: it is asked again
	}
	for i, g := range want {
		if d.Parts[i].From != g.From || d.Parts[i].To != g.To {
			return
		}
	}
	a.task.answers[a.who] = d.Parts
}

// settle keeps what of a part has not been agreed on.
func (p *Proof) settle(now time.Time, t *proofTask) {
	mine, ok := t.answers[len(p.cfg.Servers)]
	if !ok || len(p.tasks) >= proofTasks {
		p.again(now, t)
		return
	}
	var mute []int // asked without an answer
	for _, s := range t.servers {
		if _, ok := t.answers[s]; !ok {
			mute = append(mute, s)
		}
	}
	if len(mute) > 0 {
		p.again(now, &proofTask{table: t.table, rng: t.rng, servers: mute})
	}
	for i, d := range mine {
		var differ []int
		most := d.Count
		for _, s := range t.servers {
			if theirs, ok := t.answers[s]; ok && theirs[i] != d {
				differ = append(differ, s)
				most = max(most, theirs[i].Count)
			}
		}
		if len(differ) == 0 {
			continue
		}
		part := &proofTask{table: t.table, rng: partition.Range{From: d.From, To: d.To}, servers: differ, at: now}
		if most <= repairLeaf || d.From == d.To {
			part.at = now.Add(proofPause)
		}
		p.tasks = append(p.tasks, part)
	}
}

func (p *Proof) again(now time.Time, t *proofTask) {
	t.at = now.Add(proofPause)
	p.tasks = append(p.tasks, t)
}

// start asks about parts whose time has come.
func (p *Proof) start(now time.Time) []Action {
	var acts []Action
	filler := len(p.cfg.Servers)
	for _, t := range p.tasks {
		t.servers = slices.DeleteFunc(slices.Clone(t.servers), p.silent)
	}
	p.tasks = slices.DeleteFunc(p.tasks, func(t *proofTask) bool { return len(t.servers) == 0 })
	if p.silent(filler) || len(p.tasks) == 0 && p.active == 0 {
		p.ended = true
		return nil
	}
	p.when = now.Add(time.Hour)
	p.tasks = slices.DeleteFunc(p.tasks, func(t *proofTask) bool {
		if p.active >= proofWindow || now.Before(t.at) {
			if p.active < proofWindow && t.at.Before(p.when) {
				p.when = t.at
			}
			return false
		}
		p.active++
		t.answers = make(map[int][]protocol.DigestPart)
		for _, who := range append(slices.Clone(t.servers), filler) {
			peer := p.cfg.Filler
			if who != filler {
				peer = p.cfg.Servers[who]
			}
			acts = append(acts, Action{
				Kind: ActAsk, Tag: p.next, Peer: peer, Payload: protocol.Digest{Table: t.table, From: t.rng.From, To: t.rng.To},
			})
			p.asked[p.next] = proofAsk{t, who}
			p.next++
			t.waiting++
		}
		return true
	})
	return acts
}
