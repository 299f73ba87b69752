package sqlite

import (
	"context"
	"database/sql"
	"sync/atomic"
)

const (
	// checkpointAfter is after how many pages of log they are copied into the database, in the background: a commit does not wait
	// for that.
	checkpointAfter = 1000
	// checkpointMost is how many pages the log may have (64 MiB) before the writer finishes the copying itself, so that the log
	// begins anew: while it goes on writing, the background never catches up.
	checkpointMost = 16 << 10
)

// checkpointer copies what the log holds into the database beside the writer.
type checkpointer struct {
	h      *handle
	most   int64
	wanted chan struct{}
	stop   context.CancelFunc
	done   chan struct{}
	log    atomic.Int64 // pages in the log, as the last checkpoint found it

	changed int64 // about how many since; the writer's
}

func startCheckpoints(h *handle, most int64) *checkpointer {
	ctx, stop := context.WithCancel(context.Background())
	c := &checkpointer{h: h, most: most, wanted: make(chan struct{}, 1), stop: stop, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for {
			select {
			case <-c.wanted:
				c.log.Store(c.copy(ctx, h.check))
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

func (c *checkpointer) close() {
	c.stop()
	<-c.done
}

// copy copies what it can without waiting for anybody, and returns how many pages are to be gone on from. Where it fails, the log is
// longer and nothing is lost.
func (c *checkpointer) copy(ctx context.Context, db *sql.DB) int64 {
	var busy, log, copied int64
	err := db.QueryRowContext(ctx, "PRAGMA wal_checkpoint(PASSIVE)").Scan(&busy, &log, &copied)
	switch {
	case err != nil || log < 0:
		return c.log.Load()
	case db == c.h.write && copied == log:
		return 0 // the next commit begins the log anew
	}
	return log
}

// look has the log copied if it is time; the writer calls it between commits.
func (c *checkpointer) look() {
	switch {
	case c.changed < min(checkpointAfter, c.most/4):
		return
	case c.log.Load()+c.changed >= c.most:
		c.log.Store(c.copy(context.Background(), c.h.write))
	default:
		poke(c.wanted)
	}
	c.changed = 0
}

func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default: // it is at it
	}
}
