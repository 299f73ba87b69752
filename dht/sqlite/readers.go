package sqlite

import (
	"errors"
	"sync"

	"culvert/dht"
)

// readersMost is how many read records at once.
const readersMost = 4

// readers are the connections for reading records. The one given back last is lent first: its pages are the ones still in the
// processor's cache, and of those that nobody needs no page is held.
type readers struct {
	turns chan struct{} // a place for each that is lent

	mu     sync.Mutex
	rest   []*reader
	closed bool
}

func newReaders() *readers { return &readers{turns: make(chan struct{}, readersMost)} }

// with lends f a reader that nobody else uses.
func (l *readers) with(open func() (*reader, error), f func(*reader) error) error {
	l.turns <- struct{}{}
	defer func() { <-l.turns }()
	r, err := l.take()
	if r == nil && err == nil {
		r, err = open()
	}
	if err != nil {
		return err
	}
	defer l.give(r)
	return f(r)
}

// take is nil where another one is to be opened.
func (l *readers) take() (r *reader, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, dht.ErrClosed
	}
	if last := len(l.rest) - 1; last >= 0 {
		r, l.rest = l.rest[last], l.rest[:last]
	}
	return r, nil
}

func (l *readers) give(r *reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, r)
}

// close waits for those that are lent. It may be called twice.
func (l *readers) close() (err error) {
	for range cap(l.turns) {
		l.turns <- struct{}{}
	}
	l.mu.Lock()
	rest := l.rest
	l.rest, l.closed = nil, true
	l.mu.Unlock()
	for range cap(l.turns) {
		<-l.turns
	}
	for _, r := range rest {
		err = errors.Join(err, r.close())
	}
	return err
}
