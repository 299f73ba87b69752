//go:build linux

package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
)

// ErrClosed is returned by everything asked of a lab that was closed.
var ErrClosed = errors.New("lab is closed")

// A Lab is one small internet. Its methods may be called at once from several
// goroutines; Close ends every process and namespace.
type Lab struct {
	ctx  context.Context
	stop context.CancelFunc
	dir  string
	core *Host

	mu     sync.Mutex
	hosts  []*Host
	names  map[string][]netip.Addr
	links  int
	logs   int
	closed bool
}

// New makes a lab with nothing in it but the core. Logs of processes go to
// dir. When ctx ends the processes are killed, and whoever waits for one sees
// it; Close is still owed.
func New(ctx context.Context, dir string) (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("the lab makes network namespaces and needs root")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("log folder: %w", err)
	}
	l := &Lab{dir: dir}
	if err := l.addNames("localhost", netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")); err != nil {
		return nil, err
	}
	l.ctx, l.stop = context.WithCancel(ctx)
	core, err := l.newHost("core")
	if err != nil {
		l.stop()
		return nil, err
	}
	l.core = core
	text, err := rules(ruleValues{}, coreRules)
	if err := errors.Join(err, core.forward(), core.nft(text)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Public adds a host that stands openly in the internet, alone in its networks
// (its own address and prefix length, one or one of each family); the core is
// its gateway at each network's first address. Anybody on it may listen at any
// port, so that a super-node that runs as nobody has 443 and 80.
func (l *Lab) Public(name string, addrs ...netip.Prefix) (*Host, error) {
	h, err := l.newHost(name)
	if err != nil {
		return nil, err
	}
	_, err = l.attachToCore(h, "eth0", addrs...)
	err = errors.Join(err, h.sysctl("net/ipv4/ip_unprivileged_port_start", "0"), l.addNames(h.DNSName(), addrs...))
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	h.addrs = addrs
	return h, nil
}

// Close kills what still runs and gives the namespaces back. It waits for all
// of it, may be called again, and reports what could not be undone.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	hosts := l.hosts
	l.mu.Unlock()
	l.stop()
	var errs []error
	for _, h := range hosts {
		errs = append(errs, h.close())
	}
	return errors.Join(errs...)
}

// Processes lists every process that was started, in the order of hosts.
func (l *Lab) Processes() []*Process {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*Process
	for _, h := range l.hosts {
		h.mu.Lock()
		all = append(all, h.procs...)
		h.mu.Unlock()
	}
	return all
}

func (l *Lab) newHost(name string) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, ErrClosed
	}
	for _, h := range l.hosts {
		if h.name == name {
			return nil, fmt.Errorf("host %s: the name is taken", name)
		}
	}
	h, err := startHost(l, name)
	if err != nil {
		return nil, fmt.Errorf("host %s: %w", name, err)
	}
	l.hosts = append(l.hosts, h)
	return h, nil
}

// attachToCore wires an interface of h to a port of the core, which it returns,
// and points its default routes there.
func (l *Lab) attachToCore(h *Host, name string, addrs ...netip.Prefix) (string, error) {
	port := l.nextPort()
	if err := h.veth(name, macOf(h.name, name), l.core, port, macOf("core", port)); err != nil {
		return "", err
	}
	for _, a := range addrs {
		if err := l.numberCable(h, name, port, a); err != nil {
			return "", err
		}
	}
	return port, nil
}

// numberCable gives both ends of a cable to the core their addresses.
func (l *Lab) numberCable(h *Host, name, port string, addr netip.Prefix) error {
	gateway := gatewayOf(addr)
	if gateway.Addr() == addr.Addr() {
		return fmt.Errorf("address %s belongs to the core", addr)
	}
	return errors.Join(
		l.core.address(port, gateway),
		h.address(name, addr),
		h.route(netip.Prefix{}, gateway.Addr()),
	)
}

// gatewayOf is the core's address in a public network: the first.
func gatewayOf(addr netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(addr.Masked().Addr().Next(), addr.Bits())
}

func (l *Lab) nextPort() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.links++
	return fmt.Sprintf("port%d", l.links)
}

func (l *Lab) logPath(host, label string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.logs++
	return filepath.Join(l.dir, fmt.Sprintf("%02d-%s-%s.log", l.logs, host, label))
}

// macOf gives an interface the same locally administered address in every
// run; it is a hash, so no MAC contains an IP address that a test looks for.
func macOf(host, iface string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(host + "\x00" + iface))
	mac := net.HardwareAddr(sum[:6])
	mac[0] = mac[0]&^0x01 | 0x02
	return mac
}
