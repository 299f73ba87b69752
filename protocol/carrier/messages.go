package carrier

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// streamTimes bound a stream's life; see the package doc.
type streamTimes struct {
	dial      time.Duration // to find a way
	keepAlive time.Duration // dialler: without a frame sent
	deaf      time.Duration // dialler: without anything heard
	unused    time.Duration // dialler: without a datagram sent
	prove     time.Duration // acceptor: to the first authentic datagram
	idle      time.Duration // acceptor: from one to the next
	stall     time.Duration // a write that does not come to its end
}

func defaultTimes() streamTimes {
	return streamTimes{
		dial: 6 * time.Second, keepAlive: 20 * time.Second, deaf: 50 * time.Second, unused: 2 * time.Minute,
		prove: 20 * time.Second, idle: 150 * time.Second, stall: 10 * time.Second,
	}
}

// unread is how many datagrams of one stream may wait to be read: past it the stream is not read,
// so that TCP slows down who floods, and the others' come through.
const unread = 16

// messageStream is one connection that carries datagrams.
type messageStream struct {
	conn    net.Conn
	addr    netip.AddrPort // from where its datagrams seem to come
	dialled bool
	times   streamTimes
	out     *sendQueue
	in      chan<- inbound
	slots   chan struct{}
	stop    <-chan struct{} // the owner wants it to end

	proved atomic.Int64 // when the last datagram proved authentic, ns since 1970; accepted ones only
	echo   atomic.Bool  // a keep-alive is to be answered
	ended  chan struct{}
}

// inbound is a datagram on its way to the reader, which then frees a slot of its stream.
type inbound struct {
	data   []byte
	stream *messageStream
}

var (
	errUnused = errors.New("nothing to send")
	errStream = errors.New("the stream has ended")
)

func newMessageStream(conn net.Conn, addr netip.AddrPort, dialled bool, t streamTimes, out *sendQueue, in chan<- inbound, stop <-chan struct{}) *messageStream {
	return &messageStream{
		conn: conn, addr: addr, dialled: dialled, times: t, out: out, in: in, stop: stop,
		slots: make(chan struct{}, unread), ended: make(chan struct{}),
	}
}

// run moves datagrams until one side ends it, and closes the connection.
func (s *messageStream) run() error {
	var (
		wg   sync.WaitGroup
		once sync.Once
		err  error
	)
	end := func(why error) {
		once.Do(func() {
			err = why
			close(s.ended)
			_ = s.conn.Close()
		})
	}
	wg.Go(func() { end(s.write()) })
	end(s.read())
	wg.Wait()
	return err
}

func (s *messageStream) read() error {
	r := bufio.NewReader(s.conn)
	if !s.dialled {
		_ = s.conn.SetReadDeadline(time.Now().Add(s.times.prove))
	}
	for {
		if s.dialled {
			_ = s.conn.SetReadDeadline(time.Now().Add(s.times.deaf))
		}
		b, err := ReadFrame(r)
		if err != nil {
			return err
		}
		if len(b) == 0 {
			if !s.dialled {
				s.echo.Store(true)
				s.out.poke()
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		case <-s.ended:
			return errStream
		case <-s.stop:
			return errStream
		}
		select {
		case s.in <- inbound{b, s}:
		case <-s.ended:
			return errStream
		case <-s.stop:
			return errStream
		}
	}
}

// confirm notes that a datagram of this stream was authentic, and lets the stream live on.
func (s *messageStream) confirm(now time.Time) (first bool) {
	old := s.proved.Load()
	if now.UnixNano()-old < int64(time.Second) {
		return false
	}
	if !s.proved.CompareAndSwap(old, now.UnixNano()) {
		return false
	}
	_ = s.conn.SetReadDeadline(now.Add(s.times.idle))
	return old == 0
}

// writeChunk is about one TLS record: what waits together is sent together.
const writeChunk = 16 << 10

func (s *messageStream) write() error {
	var (
		buf    []byte
		useful = time.Now()
		timer  = time.NewTimer(s.times.keepAlive)
		tick   <-chan time.Time // of the dialler; the acceptor only answers
	)
	defer timer.Stop()
	if s.dialled {
		tick = timer.C
	}
	for {
		due := false
		select {
		case <-s.ended:
			return errStream
		case <-s.out.wake:
		case <-tick:
			due = true
		}
		list := s.out.take()
		if len(list) > 0 {
			useful = time.Now()
		} else if due && time.Since(useful) > s.times.unused {
			return errUnused
		}
		if s.echo.Swap(false) || due && len(list) == 0 {
			list = append(list, nil)
		}
		if len(list) > 0 && s.dialled {
			timer.Reset(s.times.keepAlive)
		}
		for len(list) > 0 {
			buf = buf[:0]
			for len(list) > 0 && len(buf)+frameHeader+len(list[0]) <= writeChunk {
				var err error
				if buf, err = AppendFrame(buf, list[0]); err != nil {
					return err
				}
				list = list[1:]
			}
			_ = s.conn.SetWriteDeadline(time.Now().Add(s.times.stall))
			if _, err := s.conn.Write(buf); err != nil {
				return err
			}
		}
	}
}
