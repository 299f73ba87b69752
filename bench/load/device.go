package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"

	"culvert/protocol/rawtcp"
)

// What the first byte of a connection asks the device for.
const (
	modeSink byte = 'S' // take everything, then answer how much was right
	modeEcho byte = 'E' // send everything back
)

const (
	block  = 256 << 10
	sample = 1 << 10 // of each read, compared with what was sent
	// echoBuffer is small because many connections may stand and do nothing.
	echoBuffer = 1 << 10
)

// pattern repeats in what is sent. Every offset within a block looks different.
var pattern = func() []byte {
	b := make([]byte, block)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}()

// Device is what stands behind the tunnels.
type Device struct {
	listener *net.TCPListener
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.TCPConn]struct{} // nil after close
}

// NewDevice listens on 127.0.0.1.
func NewDevice() (*Device, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("device: %w", err)
	}
	d := &Device{listener: l, conns: make(map[*net.TCPConn]struct{})}
	d.wg.Go(d.accept)
	return d, nil
}

func (d *Device) accept() {
	for {
		c, err := d.listener.AcceptTCP()
		if err != nil {
			return
		}
		d.mu.Lock()
		if d.conns == nil {
			d.mu.Unlock()
			_ = c.Close()
			return
		}
		d.conns[c] = struct{}{}
		d.wg.Go(func() {
			d.serve(c)
			_ = c.Close()
			d.mu.Lock()
			delete(d.conns, c)
			d.mu.Unlock()
		})
		d.mu.Unlock()
	}
}

// serve does what the connection asks for. A probe asks for nothing.
func (d *Device) serve(c *net.TCPConn) {
	var mode [1]byte
	if _, err := io.ReadFull(c, mode[:]); err != nil {
		return
	}
	switch mode[0] {
	case modeSink:
		n, err := sink(c)
		if err == nil {
			_, _ = c.Write(binary.BigEndian.AppendUint64(nil, n))
		}
	case modeEcho:
		r := rawtcp.New(c)
		_, _ = io.CopyBuffer(struct{ io.Writer }{r}, struct{ io.Reader }{r}, make([]byte, echoBuffer))
	}
}

var errPattern = errors.New("device: other bytes arrived than were sent")

// sink counts the bytes that arrive; at other bytes than the pattern's it stops and does not answer.
func sink(r io.Reader) (uint64, error) {
	buf := make([]byte, block)
	var n uint64
	for {
		k, err := r.Read(buf)
		at := int(n % block)
		part := min(k, sample, block-at)
		if !bytes.Equal(buf[:part], pattern[at:at+part]) {
			return n, errPattern
		}
		n += uint64(k)
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// Port is where the device listens.
func (d *Device) Port() uint16 { return uint16(d.listener.Addr().(*net.TCPAddr).Port) }

// Close ends all connections and waits for them.
func (d *Device) Close() error {
	err := d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
	d.mu.Unlock()
	d.wg.Wait()
	return err
}
