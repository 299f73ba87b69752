//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// pathQueue is what the kernel holds for a path, pathFrames how many frames are under way in one direction at most.
	pathQueue  = 8 << 20
	pathFrames = 16 << 10
	// pathBurst is what leaves at once before the rate holds: a segment as long as the stack makes them, and some.
	pathBurst = 96 << 10
)

// A Path is what lies between a site and the internet.
type Path struct {
	OneWay time.Duration // that every frame is under way
	Rate   int64         // bits a second in each direction
}

// distance has frames arrive later. The kernels of these machines emulate no delay, so that a host with a port on either side
// does: it takes each frame whole and passes it on when its time has come, in order.
type distance struct {
	oneWay time.Duration
	near   *packet.Conn
	far    *packet.Conn
	done   chan struct{}
	wg     sync.WaitGroup
}

// layPath lays the router's cable to the core's port with a distance in its middle, and the rate at both ends.
func (s *Site) layPath(p Path) error {
	box, err := s.lab.newHost(s.Name + "-path")
	if err != nil {
		return err
	}
	if err := box.sysctlIfPresent("net/ipv6/conf/default/disable_ipv6", "1"); err != nil {
		return err
	}
	err = s.Router.veth("wan", macOf(s.Router.name, "wan"), box, "near", macOf(box.name, "near"))
	if err == nil {
		err = box.veth("far", macOf(box.name, "far"), s.lab.core, s.port, macOf("core", s.port))
	}
	if err != nil {
		return err
	}
	if err := errors.Join(s.Router.slow("wan", p.Rate), s.lab.core.slow(s.port, p.Rate)); err != nil {
		return err
	}
	d := &distance{oneWay: p.OneWay, done: make(chan struct{})}
	err = box.Do(func() (err error) {
		if d.near, err = portOf("near"); err != nil {
			return err
		}
		d.far, err = portOf("far")
		return err
	})
	if err != nil {
		return errors.Join(fmt.Errorf("path of %s: %w", s.Name, err), d.close())
	}
	d.carry(d.near, d.far)
	d.carry(d.far, d.near)
	box.mu.Lock()
	box.path = d
	box.mu.Unlock()
	return nil
}

// slow has an interface send at so many bits a second, and frames as they are on a real cable: with checksums, and none longer
// than that takes.
func (h *Host) slow(iface string, rate int64) error {
	res, err := h.run(h.lab.ctx, nil, nil, "ethtool", "-K", iface, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
	if err != nil {
		return err
	}
	if res.Code != 0 {
		return fmt.Errorf("ethtool at %s on %s: %.500s", iface, h.name, res.Stderr)
	}
	link, err := h.link.LinkByName(iface)
	if err != nil {
		return fmt.Errorf("interface %s on %s: %w", iface, h.name, err)
	}
	bucket := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       uint64(rate / 8), Limit: uint32(rate / 8 / 10), // a tenth of a second may wait
		Buffer: uint32(netlink.Xmittime(uint64(rate/8), pathBurst)),
	}
	if err := h.link.QdiscAdd(bucket); err != nil {
		return fmt.Errorf("rate at %s on %s: %w", iface, h.name, err)
	}
	return nil
}

// portOf takes every frame that comes to an interface, and none that leaves it.
func portOf(iface string) (*packet.Conn, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, err
	}
	c, err := packet.Listen(ifi, packet.Raw, unix.ETH_P_ALL, nil)
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err == nil {
		var set error
		err = raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
		})
		err = errors.Join(err, set, enlarge(c, pathQueue))
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// carry passes on what comes to one port, until close.
func (d *distance) carry(from, to *packet.Conn) {
	type frame struct {
		due  time.Time
		data []byte
	}
	under := make(chan frame, pathFrames)
	d.wg.Go(func() {
		defer close(under)
		buf := make([]byte, maxFrame)
		for {
			n, _, err := from.ReadFrom(buf)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err != nil || n < ethernetHeader {
				continue // the interface went down for a while
			}
			f := frame{time.Now().Add(d.oneWay), append([]byte(nil), buf[:n]...)}
			select {
			case under <- f:
			case <-d.done:
				return
			}
		}
	})
	d.wg.Go(func() {
		timer := time.NewTimer(0)
		defer timer.Stop()
		for f := range under {
			if wait := time.Until(f.due); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-d.done:
				}
			}
			_, _ = to.WriteTo(f.data, &packet.Addr{HardwareAddr: f.data[:6]}) // what is not taken is lost, as on any path
		}
	})
}

// close ends the carrying and waits for it.
func (d *distance) close() error {
	close(d.done)
	var errs []error
	for _, c := range []*packet.Conn{d.near, d.far} {
		if c != nil {
			errs = append(errs, c.SetDeadline(time.Unix(1, 0)))
		}
	}
	d.wg.Wait()
	for _, c := range []*packet.Conn{d.near, d.far} {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}
