//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// A Host is one network namespace: a computer, a device or a router.
type Host struct {
	lab  *Lab
	name string
	ns   netns.NsHandle
	link *netlink.Handle

	// work reaches the thread that stays in the namespace and starts all
	// processes there; gone is closed when it has ended.
	work chan func()
	gone chan struct{}

	mu     sync.Mutex
	addrs  []netip.Prefix // of eth0
	mac    net.HardwareAddr
	loss   map[string]int    // percent, by interface
	down   map[string]downed // by interface
	procs  []*Process
	path   *distance // that this host stands for
	closed bool
}

// Name is the host's name in the lab.
func (h *Host) Name() string { return h.name }

// Addr is the main address of the host's eth0, the zero Addr for the core and
// for routers.
func (h *Host) Addr() netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.addrs) == 0 {
		return netip.Addr{}
	}
	return h.addrs[0].Addr()
}

// Addr6 is the IPv6 address of the host's eth0, the zero Addr if it has none.
func (h *Host) Addr6() netip.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.addrs {
		if p.Addr().Is6() {
			return p.Addr()
		}
	}
	return netip.Addr{}
}

// MAC is the hardware address of eth0 of a host on a site's LAN.
func (h *Host) MAC() net.HardwareAddr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mac
}

func startHost(l *Lab, name string) (*Host, error) {
	h := &Host{lab: l, name: name, work: make(chan func()), gone: make(chan struct{})}
	ready := make(chan error)
	go h.thread(ready)
	if err := <-ready; err != nil {
		return nil, err
	}
	link, err := netlink.NewHandleAt(h.ns)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("netlink: %w", err), h.close())
	}
	h.link = link
	err = errors.Join(
		h.sysctl("net/ipv6/conf/all/accept_dad", "0"),
		h.sysctl("net/ipv6/conf/default/accept_dad", "0"),
		h.sysctlIfPresent("net/bridge/bridge-nf-call-iptables", "0"),
		h.pingAllowed(),
		h.linkUp("lo"),
	)
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// thread stands in the namespace for as long as the host lives. It never
// unlocks: the runtime then ends the thread with the goroutine, and with it,
// by Pdeathsig, whatever it started.
func (h *Host) thread(ready chan<- error) {
	defer close(h.gone)
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		ready <- fmt.Errorf("new namespace: %w", err)
		return
	}
	h.ns = ns
	if err := h.lab.ownNames(); err != nil {
		ready <- errors.Join(err, ns.Close())
		return
	}
	ready <- nil
	for f := range h.work {
		f()
	}
}

// onThread runs f on the host's own thread.
func (h *Host) onThread(f func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	done := make(chan error)
	h.work <- func() { done <- f() }
	return <-done
}

// Do runs f on a thread that stands in the host's namespace. Sockets opened by
// f stay in it; goroutines started by f do not run there. f may block.
func (h *Host) Do(f func() error) error {
	h.mu.Lock()
	closed := h.closed
	h.mu.Unlock()
	if closed {
		return ErrClosed
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(h.ns); err != nil {
			done <- fmt.Errorf("enter namespace of %s: %w", h.name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// Dial connects from the host. The address must be a literal one: the
// resolver runs outside the namespace.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := h.Do(func() (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen opens a stream listener on the host.
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var ln net.Listener
	err := h.Do(func() (err error) {
		ln, err = new(net.ListenConfig).Listen(h.lab.ctx, network, address)
		return err
	})
	return ln, err
}

// ListenPacket opens a datagram socket on the host.
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		conn, err = new(net.ListenConfig).ListenPacket(h.lab.ctx, network, address)
		return err
	})
	return conn, err
}

// close ends processes, thread and descriptors, in this order.
func (h *Host) close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	procs, path := h.procs, h.path
	h.mu.Unlock()
	for _, p := range procs {
		p.Kill()
	}
	var err error
	if path != nil {
		err = path.close()
	}
	close(h.work)
	<-h.gone
	if h.link != nil {
		h.link.Close()
	}
	return errors.Join(err, h.ns.Close())
}

func (h *Host) sysctl(key, value string) error {
	return h.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0o644)
	})
}

// pingAllowed lets everybody send pings, as systemd has it on ordinary
// machines; where only some groups exist there is nobody else to allow it to.
func (h *Host) pingAllowed() error {
	err := h.sysctl("net/ipv4/ping_group_range", "0 2147483647")
	if errors.Is(err, unix.EINVAL) {
		return h.sysctl("net/ipv4/ping_group_range", "0 0")
	}
	return err
}

// sysctlIfPresent sets a key that exists only where its module is loaded.
func (h *Host) sysctlIfPresent(key, value string) error {
	err := h.sysctl(key, value)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (h *Host) forward() error {
	return errors.Join(
		h.sysctl("net/ipv4/ip_forward", "1"),
		h.sysctl("net/ipv6/conf/all/forwarding", "1"),
	)
}
