package relay

import (
	"errors"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/time/rate"

	"culvert/protocol/rawtcp"
)

const (
	// copySize is the buffer of a busy direction in user space, idleSize that of an idle one.
	copySize = 32 << 10
	idleSize = 256
	// busyTurn is how long a direction without bytes keeps a large buffer.
	busyTurn = time.Second
	// spliceAfter is how much a direction must have moved before the kernel takes over, and splicePiece how much it moves
	// between two counts. One that manages less than spliceSlow in spliceTurn goes back.
	spliceAfter = 4 << 20
	splicePiece = 4 << 20
	spliceSlow  = 64 << 10
	spliceTurn  = time.Second
	// Under a rate the kernel moves pieces of a sixteenth of a second, so that others are served in between; not less than
	// spliceLeast, for which it would not be worth the while.
	spliceShare = 16
	spliceLeast = 256 << 10
	// lastPieces is how many pieces a node and its domain must have left of their bytes.
	lastPieces = 64
)

// copy moves end i's bytes until its orderly end.
func (p *pair) copy(i int) error {
	r, from, to := p.relay, p.ends[i].conn, p.ends[1-i].conn
	src, dst := r.bare(from), r.bare(to)
	limits := p.ends[i].party.limiters()
	piece := pieceUnder(limits)
	if src == nil || dst == nil {
		piece = 0
	}
	var streak int64
	small := make([]byte, idleSize)
	buf := small
	defer func() { r.give(buf) }()
	for {
		busy := len(buf) > idleSize
		if busy && src != nil {
			_ = src.SetReadDeadline(time.Now().Add(busyTurn)) // an idle direction keeps no large buffer
		}
		n, err := from.Read(buf)
		if n > 0 {
			if err := p.pass(i, buf[:n], limits); err != nil {
				return err
			}
		}
		if busy && n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case n == len(buf) && !busy:
			buf = r.take()
		case n < idleSize && busy:
			r.give(buf)
			buf = small
			if src != nil {
				_ = src.SetReadDeadline(time.Time{})
			}
		}
		if streak += int64(n); streak < spliceAfter || piece < spliceLeast {
			continue
		}
		streak = 0
		if end, err := p.splice(i, src, dst, piece, limits); end || err != nil {
			return err
		}
	}
}

// pass hands on what was read from end i, as far as its allowance goes.
func (p *pair) pass(i int, b []byte, limits []*rate.Limiter) error {
	from, to := p.ends[i], p.ends[1-i]
	if err := p.pace(limits, len(b)); err != nil {
		return err
	}
	may := int(from.party.take(int64(len(b)), p.relay.cfg.Now()))
	if may > 0 {
		n, err := to.conn.Write(b[:may])
		p.count(i, int64(n))
		if err != nil {
			return err
		}
	}
	if may < len(b) {
		return errBytes
	}
	return nil
}

// splice lets the kernel move pieces as long as they come quickly and there is a pipe for it. It reports whether the direction
// has ended.
func (p *pair) splice(i int, src, dst *net.TCPConn, piece int64, limits []*rate.Limiter) (bool, error) {
	r, party := p.relay, p.ends[i].party
	defer r.splices.Add(-1)
	if r.splices.Add(1) > int64(r.cfg.Splices) {
		return false, nil
	}
	defer func() { _ = src.SetReadDeadline(time.Time{}) }()
	pipe, err := rawtcp.NewSplice(dst, src)
	if err != nil {
		return false, nil // no descriptors left: user space does without
	}
	defer pipe.Close()
	for {
		// What a piece takes and may not move would be missing to the node's other connections: the last bytes go one by one.
		if party.left(r.cfg.Now()) < lastPieces*splicePiece {
			return false, nil
		}
		if err := p.pace(limits, int(piece)); err != nil {
			return false, err
		}
		may := party.take(piece, r.cfg.Now())
		_ = src.SetReadDeadline(time.Now().Add(spliceTurn))
		n, err := pipe.Move(may)
		party.giveBack(may - n)
		p.count(i, n)
		r.kernel.Add(n)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if n < spliceSlow {
				return false, nil
			}
		case err == io.EOF:
			return true, nil
		case err != nil:
			return false, err
		}
	}
}

// pieceUnder is how much may be spliced between two looks at the limits.
func pieceUnder(limits []*rate.Limiter) int64 {
	piece := int64(splicePiece)
	for _, l := range limits {
		piece = min(piece, int64(l.Limit())/spliceShare, int64(l.Burst()))
	}
	return piece
}

// pace waits until n bytes may move.
func (p *pair) pace(limits []*rate.Limiter, n int) error {
	for _, l := range limits {
		r := l.ReserveN(time.Now(), n)
		if !r.OK() {
			return errBytes // more than the limit allows at once, which no piece is
		}
		wait := r.Delay()
		if wait == 0 {
			continue
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-p.done:
			t.Stop()
			r.Cancel()
			return net.ErrClosed
		}
	}
	return nil
}

// bare is the TCP connection that the kernel can splice.
func (r *Relay) bare(c Conn) *net.TCPConn {
	if r.cfg.TCP != nil {
		return r.cfg.TCP(c)
	}
	t, _ := c.(*net.TCPConn)
	return t
}

func (r *Relay) take() []byte {
	if b, ok := r.bufs.Get().(*[copySize]byte); ok {
		return b[:]
	}
	return make([]byte, copySize)
}

func (r *Relay) give(b []byte) {
	if len(b) == copySize {
		r.bufs.Put((*[copySize]byte)(b))
	}
}
