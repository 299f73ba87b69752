package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"

	"culvert/protocol/rawtcp"
)

// delivered is how a delivery ended.
type delivered struct {
	came int64
	err  error
}

// served is a flow whose tunnel side begins to deliver when it is told to, says that it has begun, and ends its own direction
// when it is told to.
func served(t *testing.T, own bool) (near, far *Flow, device *net.TCPConn, begin func(), on chan struct{}, end chan delivered) {
	t.Helper()
	conn, device := tcpPair(t)
	flows, may, begun := make(chan *Flow, 1), make(chan struct{}), make(chan struct{})
	on, end = make(chan struct{}), make(chan delivered, 1)
	r := ok(t, connect(t, func(_ context.Context, f *Flow) {
		flows <- f
		<-may
		_ = f.Accept()
		f.OnBreak(func() { conn.Close() })
		f.Deliver(rawtcp.New(conn))
		close(begun)
		<-on
		_ = f.CloseWrite()
		n, err := f.Delivered()
		conn.Close()
		end <- delivered{n, err}
	}, func(u, _ *Config) {
		if u.PromoteAfter = -1; own {
			u.PromoteAfter = 1
		}
	}))
	near, err := r.user.Open(Open{Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	return near, <-flows, device, func() { close(may); <-begun }, on, end
}

func (f *Flow) isAttended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.delivery.attended
}

// await waits for what the read loop tells readers of.
func (f *Flow) await(what func() bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for !what() {
		f.readable.Wait()
	}
}

// What came before the device had answered, what comes then, and the end, all of it in order.
func TestDeliverFromTheFirstByteToTheLast(t *testing.T) {
	for _, early := range []int{0, 1, 3000, 60 << 10} {
		near, _, device, begin, on, end := served(t, false)
		data := random(2 << 20)
		if _, err := near.Write(data[:early]); err != nil {
			t.Fatal(err)
		}
		begin()
		close(on)
		sent := make(chan error, 1)
		go func() {
			_, err := near.Write(data[early:])
			sent <- errors.Join(err, near.CloseWrite())
		}()
		got, err := io.ReadAll(device)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("early %d: %d bytes of %d, %v", early, len(got), len(data), err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		if e := <-end; e.err != nil || e.came != int64(len(data)) {
			t.Errorf("early %d: %d of %d, %v", early, e.came, len(data), e.err)
		}
	}
}

// A flow whose device takes everything at once has no goroutine that waits for bytes, and its end reaches the device without one.
func TestDeliverHasNoGoroutineForLittle(t *testing.T) {
	near, far, device, begin, on, end := served(t, false)
	begin()
	word := make([]byte, 64)
	for range 100 {
		if _, err := near.Write(word); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(device, word); err != nil {
			t.Fatal(err)
		}
		if far.isAttended() {
			t.Fatal("a goroutine waits")
		}
	}
	if err := near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := device.Read(word); n != 0 || err != io.EOF {
		t.Errorf("%d bytes, %v", n, err)
	}
	if far.isAttended() {
		t.Error("a goroutine brought the end")
	}
	close(on)
	if e := <-end; e.err != nil || e.came != 6400 {
		t.Errorf("%d bytes, %v", e.came, e.err)
	}
	if err := far.Err(); err != io.EOF {
		t.Errorf("the flow ended with %v", err)
	}
}

// A device that does not read gets a goroutine, and then all of it; also the end, while the other direction is still open.
func TestDeliverToADeviceThatLags(t *testing.T) {
	for _, own := range []bool{false, true} {
		near, far, device, begin, on, end := served(t, own)
		begin()
		data := random(24 << 20)
		sent := make(chan error, 1)
		go func() {
			_, err := near.Write(data)
			sent <- errors.Join(err, near.CloseWrite())
		}()
		far.await(func() bool { return far.delivery.attended || far.err != nil })
		got, err := io.ReadAll(device)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
		close(on)
		if e := <-end; e.err != nil || e.came != int64(len(data)) {
			t.Errorf("%d of %d, %v", e.came, len(data), e.err)
		}
	}
}

// A device that resets, a flow that is reset and a link that ends: nobody waits for ever.
func TestDeliverThatBreaks(t *testing.T) {
	for name, brk := range map[string]func(near, far *Flow, device *net.TCPConn){
		"device": func(near, _ *Flow, device *net.TCPConn) {
			_ = device.SetLinger(0)
			_ = device.Close()
			for err := error(nil); err == nil; {
				_, err = near.Write(make([]byte, 100))
			}
		},
		"flow": func(near, _ *Flow, _ *net.TCPConn) { near.Reset(ReasonNone, "") },
		"link": func(_, far *Flow, _ *net.TCPConn) { far.link.Fail(ErrDead) },
	} {
		near, far, device, begin, on, end := served(t, false)
		begin()
		brk(near, far, device)
		far.await(func() bool { return far.err != nil })
		close(on)
		if e := <-end; e.err == nil {
			t.Errorf("%s: ended in order", name)
		}
	}
}

// brittle takes some bytes at once and some more when it is waited for, and then breaks.
type brittle struct{ soon, late int }

func (b *brittle) TryWrite([]byte) (int, error) { return b.soon, nil }
func (b *brittle) Write([]byte) (int, error)    { return b.late, io.ErrClosedPipe }
func (b *brittle) CloseWrite() error            { return nil }

// Bytes that a device took before it broke are counted.
func TestDeliverCountsWhatCameBeforeTheBreak(t *testing.T) {
	const early = 1000
	end := make(chan delivered, 1)
	r := ok(t, connect(t, func(_ context.Context, f *Flow) {
		_ = f.Accept()
		f.await(func() bool { return len(f.recv) == early })
		f.Deliver(&brittle{soon: 10, late: 20})
		n, err := f.Delivered()
		end <- delivered{n, err}
	}))
	near, err := r.user.Open(Open{Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := near.Write(make([]byte, early)); err != nil {
		t.Fatal(err)
	}
	if e := <-end; e.came != 30 || !errors.Is(e.err, io.ErrClosedPipe) {
		t.Errorf("%d bytes, %v", e.came, e.err)
	}
}
