package sim

import "time"

// event is something that happens at a time; those of one time happen in the order in which they were asked for.
type event struct {
	at  time.Duration
	seq uint64
	do  func()
}

func (e event) before(o event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// queue is a heap of what is still to happen.
type queue struct {
	l   []event
	seq uint64
}

func (q *queue) push(at time.Duration, do func()) {
	q.seq++
	q.l = append(q.l, event{at, q.seq, do})
	for i := len(q.l) - 1; i > 0; {
		up := (i - 1) / 2
		if !q.l[i].before(q.l[up]) {
			break
		}
		q.l[i], q.l[up] = q.l[up], q.l[i]
		i = up
	}
}

func (q *queue) pop() event {
	top := q.l[0]
	n := len(q.l) - 1
	q.l[0] = q.l[n]
	q.l[n] = event{}
	q.l = q.l[:n]
	for i := 0; ; {
		least := i
		for _, c := range [2]int{2*i + 1, 2*i + 2} {
			if c < n && q.l[c].before(q.l[least]) {
				least = c
			}
		}
		if least == i {
			return top
		}
		q.l[i], q.l[least] = q.l[least], q.l[i]
		i = least
	}
}
