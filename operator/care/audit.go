package care

import (
	"math/rand/v2"
	"slices"
	"time"

	"culvert/protocol"
)

const (
	// Window is for how long what a super-node did is held against it.
	Window = 10 * time.Minute
	// Isolate is from how many points within Window on a super-node is isolated.
	Isolate = 4
	// Settled is how old a record must be before its absence says anything: more than two repair intervals.
	Settled = 3 * time.Minute

	pointsMiss  = 1
	pointsProof = 2

	// askEvery is how often each super-node is asked, suspectEvery one that has points.
	askEvery     = 6 * time.Second
	suspectEvery = 3 * time.Second
	// maxRate bounds how many super-nodes are asked in a second; beyond it each is asked less often.
	maxRate = 100
	// againAfter is the pause between an acknowledged record and the question for it.
	againAfter = 5 * time.Second

	silenceOf    = 16 // answers looked at
	silenceLimit = 12 // of them missing
	maxHeld      = 64 // marks kept of one super-node
	maxTries     = 5  // of handing over or asking again, where nothing or Busy comes back
)

// Verdict is how one question ended.
type Verdict byte

const (
	Sound      Verdict = iota // the newest record, or for Hand: acknowledged
	Nothing                   // not asked, or what the answer says is of no use
	Unanswered                // not in several tries
	Busy                      // refused for load, or for a full disk
	Denied                    // refused as not its range, though it is by a map that it must have
	Missing                   // "there is none"
	Stale                     // an older one than Settled ago
	Unsound                   // what nobody who may has signed
	Refused                   // for Hand: refused though it has to be taken
	Newer                     // for Hand: a newer one is there, or has been
)

// Step is what a task does.
type Step byte

const (
	Ask      Step = iota // for a record of the driver's choice
	Hand                 // store Subject there
	AskAgain             // for Subject
)

// Subject is a record that was asked for; the machine carries it from the first question to the last.
type Subject struct {
	Name   string // for people: table and owner
	Record []byte // the newest version, as signed
	Signed bool   // by an operator: its being there is not another's word
}

// Task is one question to a super-node. Who asks returns it to Finished with Subject filled in.
type Task struct {
	Member  protocol.ID
	Step    Step
	Subject Subject
	denied  bool // for Hand: what it acknowledged before it denied
	tries   int
}

// Score is what is held against a super-node.
type Score struct {
	Points     int
	Asked      int // since it is known here
	Unanswered int
	Missed     int
	Reasons    []string // newest last
}

// Finding is a super-node to be isolated.
type Finding struct {
	ID     protocol.ID
	Reason string
}

// Audit decides whom to ask when, and whom to isolate.
type Audit struct {
	rand    *rand.Rand
	members map[protocol.ID]*audited
}

type audited struct {
	id       protocol.ID
	next     Task
	due      time.Time
	running  bool
	alive    bool
	isolated bool
	marks    []mark
	recent   []bool // answered or not, oldest first
	refusals refusals
	peers    []protocol.ID
	asked    int
	silent   int
	missed   int
}

type mark struct {
	at     time.Time
	points int
	reason string
}

// NewAudit makes one that knows nobody.
func NewAudit(r *rand.Rand) *Audit { return &Audit{rand: r, members: make(map[protocol.ID]*audited)} }

// Member is a super-node to be audited.
type Member struct {
	ID       protocol.ID
	Alive    bool          // it answers signs of life
	Isolated bool          // already
	Peers    []protocol.ID // who else is audited of those who share its range
}

// SetMembers names all super-nodes that serve a range.
func (a *Audit) SetMembers(now time.Time, ms []Member) {
	known := make(map[protocol.ID]bool, len(ms))
	for _, m := range ms {
		known[m.ID] = true
		w := a.members[m.ID]
		if w == nil {
			w = &audited{id: m.ID, due: now.Add(time.Duration(a.rand.Int64N(int64(askEvery))))}
			a.members[m.ID] = w
		}
		if w.isolated && !m.Isolated {
			w.marks, w.recent, w.refusals = nil, nil, refusals{} // released: what was is forgiven
		}
		w.alive, w.isolated, w.peers = m.Alive, m.Isolated, m.Peers
	}
	for id := range a.members {
		if !known[id] {
			delete(a.members, id)
		}
	}
}

// Due are the questions whose time has come, in order of ID; each is to be asked and its end told to Finished.
func (a *Audit) Due(now time.Time) []Task {
	var ts []Task
	for id, w := range a.members {
		if !w.running && !now.Before(w.due) {
			w.running = true
			w.next.Member = id
			ts = append(ts, w.next)
		}
	}
	slices.SortFunc(ts, func(x, y Task) int { return x.Member.Compare(y.Member) })
	return ts
}

// Deadline is when to look for due questions next; zero where there is nobody.
func (a *Audit) Deadline() time.Time {
	var d time.Time
	for _, w := range a.members {
		if !w.running && (d.IsZero() || w.due.Before(d)) {
			d = w.due
		}
	}
	return d
}

// Finished takes the end of a question.
func (a *Audit) Finished(now time.Time, t Task, v Verdict) {
	w := a.members[t.Member]
	if w == nil || !w.running {
		return
	}
	w.running = false
	w.asked++
	w.next = Task{}
	answered := v != Unanswered
	if v != Nothing {
		w.recent = append(w.recent, answered)
	}
	if len(w.recent) > silenceOf {
		w.recent = w.recent[1:]
	}
	if !answered {
		w.silent++
	}
	if w.refusals.took(now, v) {
		w.note(now, pointsMiss, "denied that it serves "+t.Subject.Name)
	}
	lacks := v == Missing || v == Stale
	switch {
	case v == Unsound:
		w.note(now, pointsProof, "answered with an unsound record for "+t.Subject.Name)
	case t.Step == Ask && lacks:
		w.missed++
		w.next = Task{Step: Hand, Subject: t.Subject}
		if t.Subject.Signed {
			w.note(now, pointsMiss, lackText(v)+t.Subject.Name)
		}
	case t.Step == Hand && v == Sound && t.denied:
		w.missed++
		w.note(now, pointsProof, "acknowledged twice and in between withheld "+t.Subject.Name)
	case t.Step == Hand && v == Sound:
		w.next = Task{Step: AskAgain, Subject: t.Subject}
	case t.Step == Hand && v == Refused && t.Subject.Signed:
		w.note(now, pointsProof, "refused to store "+t.Subject.Name)
	case t.Step == AskAgain && lacks && !t.Subject.Signed:
		w.next = Task{Step: Hand, Subject: t.Subject, denied: true} // its owner may have replaced it by what has run out since
	case t.Step == AskAgain && lacks:
		w.missed++
		w.note(now, pointsProof, "acknowledged and then "+lackText(v)+t.Subject.Name)
	case t.Step != Ask && (v == Unanswered || v == Busy || v == Denied):
		if t.tries++; t.tries < maxTries {
			w.next = t
		}
	}
	w.due = now.Add(a.pause(now, w))
}

func lackText(v Verdict) string {
	if v == Stale {
		return "gave an older "
	}
	return "withheld "
}

func (w *audited) note(now time.Time, points int, reason string) {
	if w.marks = append(w.marks, mark{now, points, reason}); len(w.marks) > maxHeld {
		w.marks = w.marks[1:]
	}
}

// pause is how long to wait before the next question.
func (a *Audit) pause(now time.Time, w *audited) time.Duration {
	d := max(askEvery, time.Duration(len(a.members))*time.Second/maxRate)
	switch {
	case w.next.Step == Hand && w.next.tries == 0:
		return 0
	case w.next.Step == AskAgain:
		d = againAfter
	case w.points(now) > 0:
		d = suspectEvery
	}
	if w.next.Step != Ask {
		return d*3/4 + time.Duration(a.rand.Int64N(int64(d/2)))
	}
	// As lookups come: at any time, now and then several. An even beat would tell spies from agents.
	return d/4 + time.Duration(min(a.rand.ExpFloat64(), 4)*float64(d)*3/4)
}

func (w *audited) points(now time.Time) int {
	n := 0
	for _, m := range w.marks {
		if now.Sub(m.at) < Window {
			n += m.points
		}
	}
	return n
}

// unanswered is how many of the last questions came to nothing.
func (w *audited) unanswered() (n int) {
	for _, ok := range w.recent {
		if !ok {
			n++
		}
	}
	return n
}

// mute reports whether it leaves most questions unanswered, the last two too: an outage may be over.
func (w *audited) mute() bool {
	n := len(w.recent)
	return w.unanswered() >= silenceLimit && !w.recent[n-1] && !w.recent[n-2]
}

// Findings are who is to be isolated now, in order of ID.
func (a *Audit) Findings(now time.Time) []Finding {
	// What most have in common is the operator's own network's: so silence counts only while most others answer well.
	well := 0
	for _, w := range a.members {
		if w.unanswered() < silenceLimit/2 {
			well++
		}
	}
	var fs []Finding
	for id, w := range a.members {
		if w.isolated {
			continue
		}
		switch {
		case w.points(now) >= Isolate:
			fs = append(fs, Finding{id, w.marks[len(w.marks)-1].reason})
		case w.alive && w.mute() && well*2 > len(a.members):
			fs = append(fs, Finding{id, "answers signs of life and leaves most questions unanswered"})
		case w.refusals.denies():
			fs = append(fs, Finding{id, "denies that it serves its range"})
		case a.alwaysBusy(now, w):
			fs = append(fs, Finding{id, "refuses most questions for load, while others of its range answer"})
		}
	}
	slices.SortFunc(fs, func(x, y Finding) int { return x.ID.Compare(y.ID) })
	return fs
}

// Score is what is held against a super-node at present.
func (a *Audit) Score(now time.Time, id protocol.ID) Score {
	w := a.members[id]
	if w == nil {
		return Score{}
	}
	s := Score{Points: w.points(now), Asked: w.asked, Unanswered: w.silent, Missed: w.missed}
	for _, m := range w.marks {
		if now.Sub(m.at) < Window {
			s.Reasons = append(s.Reasons, m.reason)
		}
	}
	return s
}
