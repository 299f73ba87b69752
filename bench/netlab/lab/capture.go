//go:build linux

package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// captureQueue is what the kernel may hold before a reader comes.
	captureQueue = 256 << 20
	// maxFrame is the longest frame on a virtual cable: segmentation is put
	// off there, so one frame may hold 64 KB and its headers.
	maxFrame = 1<<16 + 256
)

// ErrDropped is what a capture ends with that has not seen every frame.
var ErrDropped = errors.New("the kernel dropped frames")

// A Capture keeps the frames that pass an interface, in both directions.
type Capture struct {
	conn *packet.Conn
	keep func(Packet) bool
	gone chan struct{}

	readErr error // set before gone is closed

	mu      sync.Mutex
	packets []Packet

	stopped sync.Once
	stopErr error
}

// Capture starts to keep what passes the host's interface (eth0 of a host, wan
// or lan0 of a router). keep chooses, with the frame's parsed headers; nil
// keeps everything. The packet it is given must not be changed.
func (h *Host) Capture(iface string, keep func(Packet) bool) (*Capture, error) {
	c := &Capture{keep: keep, gone: make(chan struct{})}
	err := h.Do(func() error {
		ifi, err := net.InterfaceByName(iface)
		if err != nil {
			return err
		}
		c.conn, err = packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("capture at %s on %s: %w", iface, h.name, err)
	}
	if err := enlarge(c.conn, captureQueue); err != nil {
		return nil, errors.Join(fmt.Errorf("capture at %s on %s: %w", iface, h.name, err), c.conn.Close())
	}
	go c.read()
	return c, nil
}

// enlarge lets the kernel hold so many bytes before a reader comes.
func enlarge(conn *packet.Conn, bytes int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes)
		if errors.Is(set, unix.EPERM) { // root of a user namespace only: as much as the system allows
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
		}
	})
	return errors.Join(err, set)
}

func (c *Capture) read() {
	defer close(c.gone)
	buf := make([]byte, maxFrame)
	for {
		n, _, err := c.conn.ReadFrom(buf)
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.readErr = err
			}
			return
		}
		c.add(buf[:n])
	}
}

func (c *Capture) add(frame []byte) {
	if c.keep != nil && !c.keep(Parse(frame)) {
		return
	}
	p := Parse(bytes.Clone(frame))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets = append(c.packets, p)
}

// Packets is what was kept until now.
func (c *Capture) Packets() []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clip(c.packets)
}

// Stop ends the capture and returns all that passed until now. A capture from
// which the kernel had to drop frames proves nothing and is an error.
func (c *Capture) Stop() ([]Packet, error) {
	c.stopped.Do(func() { c.stopErr = c.stop() })
	return c.Packets(), c.stopErr
}

// stop lets nothing new in and then empties the kernel's queue.
func (c *Capture) stop() error {
	closeDoor := c.conn.SetBPF([]bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K, K: 0}})
	stopReader := c.conn.SetReadDeadline(time.Unix(1, 0))
	<-c.gone
	err := errors.Join(closeDoor, stopReader, c.readErr, c.drain())
	stats, statsErr := c.conn.Stats()
	err = errors.Join(err, statsErr, c.conn.Close())
	if err == nil && stats.Drops > 0 {
		err = fmt.Errorf("%w: %d of %d", ErrDropped, stats.Drops, stats.Packets)
	}
	return err
}

func (c *Capture) drain() error {
	raw, err := c.conn.SyscallConn()
	if err != nil {
		return err
	}
	var read error
	err = raw.Control(func(fd uintptr) {
		buf := make([]byte, maxFrame)
		for {
			n, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			switch {
			case errors.Is(err, unix.EINTR):
			case errors.Is(err, unix.EAGAIN):
				return
			case err != nil:
				read = err
				return
			default:
				c.add(buf[:n])
			}
		}
	})
	return errors.Join(err, read)
}
