package relay

import (
	"time"

	"culvert/protocol"
)

// spent is a token that has joined.
type spent struct {
	token   protocol.Hash
	expires time.Time
}

// spentPerWaiting is how many spent tokens are remembered for each end that may wait.
const spentPerWaiting = 16

// table pairs ends by token. It decides and waits for nothing; the relay's lock guards it.
type table struct {
	most    int           // waiting ones
	keep    time.Duration // how long a spent token is remembered: longer than a signed message stays fresh
	waiting map[protocol.Hash]*guest
	used    map[protocol.Hash]struct{}
	order   []spent // of used, oldest first
}

func newTable(most int, keep time.Duration) *table {
	return &table{most: most, keep: keep,
		waiting: make(map[protocol.Hash]*guest), used: make(map[protocol.Hash]struct{})}
}

// join finds w's other end, or lets w wait, or says why neither.
func (t *table) join(now time.Time, token protocol.Hash, w *guest) (*guest, reason) {
	t.expire(now)
	if _, ok := t.used[token]; ok || token.IsZero() {
		return nil, reasonSpent
	}
	if w.sender == w.peer || w.sender.Domain() != w.peer.Domain() {
		return nil, reasonMismatch
	}
	other := t.waiting[token]
	if other == nil {
		if len(t.waiting) >= t.most {
			return nil, reasonFull
		}
		t.waiting[token] = w
		return nil, reasonNone
	}
	if other.sender != w.peer || other.peer != w.sender {
		return nil, reasonMismatch
	}
	if len(t.order) >= t.most*spentPerWaiting {
		return nil, reasonFull // never forget a token that could come again
	}
	delete(t.waiting, token)
	t.used[token] = struct{}{}
	t.order = append(t.order, spent{token, now.Add(t.keep)})
	return other, reasonNone
}

// withdraw takes back a wait, unless it was met meanwhile.
func (t *table) withdraw(token protocol.Hash, w *guest) bool {
	if t.waiting[token] != w {
		return false
	}
	delete(t.waiting, token)
	return true
}

func (t *table) expire(now time.Time) {
	n := 0
	for n < len(t.order) && !now.Before(t.order[n].expires) {
		delete(t.used, t.order[n].token)
		n++
	}
	t.order = t.order[n:]
}
