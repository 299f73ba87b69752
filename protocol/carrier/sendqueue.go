package carrier

import (
	"slices"
	"sync"
)

// queued is how many datagrams wait for one stream: a burst of answers, not a backlog.
const queued = 128

// sendQueue holds copies of datagrams until a writer takes them. A full one loses its oldest.
type sendQueue struct {
	wake chan struct{} // something is there; takes one

	mu   sync.Mutex
	list [][]byte
}

func newSendQueue() *sendQueue { return &sendQueue{wake: make(chan struct{}, 1)} }

// push reports whether an older datagram had to go.
func (q *sendQueue) push(datagram []byte) (dropped bool) {
	q.mu.Lock()
	if dropped = len(q.list) >= queued; dropped {
		copy(q.list, q.list[1:])
		q.list = q.list[:queued-1]
	}
	q.list = append(q.list, slices.Clone(datagram))
	q.mu.Unlock()
	q.poke()
	return dropped
}

// poke has the writer look.
func (q *sendQueue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take empties the queue.
func (q *sendQueue) take() [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.list
	q.list = nil
	return l
}
