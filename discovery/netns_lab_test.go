//go:build netns && linux

package discovery

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMain runs all tests twice in network namespaces of their own, so that the whole process is the agent's machine: once with
// the right to open raw sockets and once without.
//
//	go test -tags netns ./discovery/...
//
// as root, or as anybody where user namespaces are allowed.
func TestMain(m *testing.M) {
	inside := flag.Bool("netns.inside", false, "this process is in its own network namespace")
	plain := flag.Bool("netns.plain", false, "this process may not open raw sockets")
	flag.Parse()
	if *inside && (!*plain || !rawSockets()) {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // what follows is about this thread and its children
	if *inside {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_RAW, 0, 0, 0)
		if err == nil {
			err = unix.Exec("/proc/self/exe", os.Args, os.Environ())
		}
		fmt.Fprintln(os.Stderr, "give up CAP_NET_RAW:", err)
		os.Exit(1)
	}
	code := 0
	for _, args := range [][]string{{"-netns.inside"}, {"-netns.inside", "-netns.plain"}} {
		cmd := exec.Command("/proc/self/exe", append(args, os.Args[1:]...)...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		}
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "tests with", args, "in a network namespace:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// rawSockets reports whether this process may open them.
func rawSockets() bool {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	_ = unix.Close(fd)
	return true
}

// patience is how long an event that must come is waited for, however slow and busy the machine is.
const patience = 2 * time.Minute

// until waits for what the kernel does in its own time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); sleep(t.Context(), 5*time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// site is a LAN: a namespace with a bridge, which is also its router, and the agent's interface on it.
type site struct {
	t     *testing.T
	ns    netns.NsHandle
	nl    *netlink.Handle // in ns
	name  string          // of the agent's interface
	ports int
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// namespace makes an empty one, with a handle to configure it.
func namespace(t *testing.T) (netns.NsHandle, *netlink.Handle) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(t, "this namespace", err)
	defer home.Close()
	ns, err := netns.New()
	must(t, "new namespace", err)
	must(t, "go home", netns.Set(home))
	nl, err := netlink.NewHandleAt(ns)
	must(t, "namespace handle", err)
	t.Cleanup(func() { nl.Close(); _ = ns.Close() })
	return ns, nl
}

func address4or6(t *testing.T, s string) *netlink.Addr {
	t.Helper()
	a, err := netlink.ParseAddr(s)
	must(t, "address "+s, err)
	a.Flags = unix.IFA_F_NODAD
	return a
}

// raise gives a link its addresses and brings it up.
func raise(t *testing.T, nl *netlink.Handle, name string, addrs ...string) netlink.Link {
	t.Helper()
	l, err := nl.LinkByName(name)
	must(t, "link "+name, err)
	for _, a := range addrs {
		must(t, "add "+a, nl.AddrAdd(l, address4or6(t, a)))
	}
	must(t, "up "+name, nl.LinkSetUp(l))
	return l
}

// running waits until the kernel lets the link carry packets, which it puts off by up to a second after another link's change.
func running(t *testing.T, nl *netlink.Handle, name string) {
	t.Helper()
	until(t, "link "+name+" runs", func() bool {
		l, err := nl.LinkByName(name)
		must(t, "link "+name, err)
		return l.Attrs().RawFlags&unix.IFF_RUNNING != 0 && l.Attrs().OperState == netlink.OperUp
	})
}

// newSite gives the agent the interface name with these addresses, on a LAN whose router has that MAC and those addresses.
func newSite(t *testing.T, name string, agent []string, router MAC, routerAddrs ...string) *site {
	t.Helper()
	s := &site{t: t, name: name}
	s.ns, s.nl = namespace(t)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "lan", router[:]
	must(t, "bridge", s.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}))
	raise(t, s.nl, "lan", routerAddrs...)
	home, err := netlink.NewHandle()
	must(t, "handle", err)
	t.Cleanup(home.Close)
	s.port(home, nil, name, MAC{2, 0xaa, 0, 0, 0, name[len(name)-1]})
	raise(t, home, name, agent...)
	running(t, home, name)
	t.Cleanup(func() {
		if l, err := netlink.LinkByName(name); err == nil {
			_ = netlink.LinkDel(l)
		}
	})
	return s
}

// port makes a cable between the bridge and an interface of another namespace (of the agent's, if ns is nil).
func (s *site) port(other *netlink.Handle, ns *netns.NsHandle, name string, mac MAC) {
	s.t.Helper()
	s.ports++
	local := fmt.Sprintf("port%d", s.ports)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, mac[:]
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: local, PeerNamespace: netlink.NsFd(s.ns)}
	must(s.t, "cable to "+name, other.LinkAdd(veth))
	bridge, err := s.nl.LinkByName("lan")
	must(s.t, "bridge", err)
	l, err := s.nl.LinkByName(local)
	must(s.t, "port", err)
	must(s.t, "plug in", s.nl.LinkSetMaster(l, bridge))
	must(s.t, "port up", s.nl.LinkSetUp(l))
}

// device puts a machine on the LAN.
func (s *site) device(mac MAC, addrs ...string) *netlink.Handle {
	s.t.Helper()
	ns, nl := namespace(s.t)
	s.port(nl, &ns, "eth0", mac)
	raise(s.t, nl, "eth0", addrs...)
	running(s.t, nl, "eth0")
	return nl
}

// inject sends a frame from the router's bridge onto the LAN.
func (s *site) inject(frame []byte) {
	s.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(s.t, "this namespace", err)
	defer home.Close()
	must(s.t, "enter", netns.Set(s.ns))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	must(s.t, "go home", netns.Set(home))
	must(s.t, "packet socket", err)
	defer unix.Close(fd)
	lan, err := s.nl.LinkByName("lan")
	must(s.t, "bridge", err)
	must(s.t, "inject", unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: lan.Attrs().Index}))
}

// through adds a default route of the agent's.
func (s *site) through(gw string, metric int) {
	s.t.Helper()
	l, err := netlink.LinkByName(s.name)
	must(s.t, "link", err)
	family := netlink.FAMILY_V4
	if ip(gw).Is6() {
		family = netlink.FAMILY_V6
	}
	must(s.t, "default route", netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: ip(gw).AsSlice(), Priority: metric, Family: family}))
}

// flush empties the agent's neighbour table.
func flush(t *testing.T) {
	t.Helper()
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		all, err := netlink.NeighList(0, family)
		must(t, "neighbours", err)
		for _, n := range all {
			if n.State&netlink.NUD_NOARP == 0 {
				_ = netlink.NeighDel(&n) // it may be gone already
			}
		}
	}
}
