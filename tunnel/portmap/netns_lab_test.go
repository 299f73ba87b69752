//go:build netns && linux

package portmap

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMain runs all tests in a network namespace of their own: the process is a machine on a LAN, and what it starts in
// others are its router and the internet.
//
//	go test -tags netns ./tunnel/portmap
//
// as root, with nft and miniupnpd installed.
func TestMain(m *testing.M) {
	inside := flag.Bool("netns.inside", false, "this process is in its own network namespace")
	flag.Parse()
	if *inside {
		if l, err := netlink.LinkByName("lo"); err != nil || netlink.LinkSetUp(l) != nil {
			fmt.Fprintln(os.Stderr, "no loopback:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", append([]string{"-netns.inside"}, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests in a network namespace:", err)
		os.Exit(1)
	}
}

const (
	insidePort = 7700
	lanNet     = "192.168.77.0/24"
)

var (
	lanRouter = netip.MustParseAddr("192.168.77.1")
	lanOwn    = netip.MustParseAddr("192.168.77.30")
	wanRouter = netip.MustParseAddr("192.0.1.2")
	lanSix    = netip.MustParseAddr("2a0e:4d77::30")
)

// home is a LAN with a router towards an internet of one machine.
type home struct {
	t              *testing.T
	router, beyond netns.NsHandle
	nl             *netlink.Handle // in router
	gw             Gateway
	dir            string
}

// in runs f in a namespace.
func in(t *testing.T, ns netns.NsHandle, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	must(t, "this namespace", err)
	defer here.Close()
	must(t, "enter", netns.Set(ns))
	defer func() { must(t, "go home", netns.Set(here)) }()
	f()
}

func namespace(t *testing.T) (netns.NsHandle, *netlink.Handle) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	must(t, "this namespace", err)
	defer here.Close()
	ns, err := netns.New()
	must(t, "new namespace", err)
	must(t, "go home", netns.Set(here))
	nl, err := netlink.NewHandleAt(ns)
	must(t, "handle", err)
	t.Cleanup(func() { nl.Close(); _ = ns.Close() })
	return ns, nl
}

func raise(t *testing.T, nl *netlink.Handle, name string, addrs ...string) {
	t.Helper()
	l, err := nl.LinkByName(name)
	must(t, "link "+name, err)
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		must(t, "address "+a, err)
		addr.Flags = unix.IFA_F_NODAD
		must(t, "add "+a, nl.AddrAdd(l, addr))
	}
	must(t, "up "+name, nl.LinkSetUp(l))
}

// newHome builds the three machines: eth0 here, lan and wan at the router, out beyond.
func newHome(t *testing.T) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), gw: Gateway{lanRouter, lanOwn, "eth0"}}
	h.router, h.nl = namespace(t)
	var there *netlink.Handle
	h.beyond, there = namespace(t)
	here, err := netlink.NewHandle()
	must(t, "handle", err)
	t.Cleanup(here.Close)
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	must(t, "LAN", here.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "lan", PeerNamespace: netlink.NsFd(h.router)}))
	attrs.Name = "wan"
	must(t, "WAN", h.nl.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "out", PeerNamespace: netlink.NsFd(h.beyond)}))
	for _, nl := range []*netlink.Handle{h.nl, there} {
		raise(t, nl, "lo")
	}
	raise(t, h.nl, "lan", "192.168.77.1/24", "2a0e:4d77::1/64")
	raise(t, h.nl, "wan", "192.0.1.2/24", "2a0e:4d01::2/64")
	raise(t, there, "out", "192.0.1.9/24", "2a0e:4d01::9/64")
	raise(t, here, "eth0", "192.168.77.30/24", "2a0e:4d77::30/64")
	t.Cleanup(func() {
		if l, err := here.LinkByName("eth0"); err == nil {
			_ = here.LinkDel(l)
		}
	})
	through := func(nl *netlink.Handle, name, via string, dst string) {
		l, err := nl.LinkByName(name)
		must(t, "link", err)
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(via)}
		if dst != "" {
			_, r.Dst, _ = net.ParseCIDR(dst)
		}
		must(t, "route via "+via, nl.RouteAdd(r))
	}
	through(here, "eth0", "192.168.77.1", "")
	through(here, "eth0", "2a0e:4d77::1", "")
	through(there, "out", "2a0e:4d01::2", "2a0e:4d77::/64")
	h.sh("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
	h.rules(`
table inet fw {
	chain miniupnpd { }
	chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; jump miniupnpd; }
}
table inet nat {
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
	chain prerouting { type nat hook prerouting priority dstnat; jump prerouting_miniupnpd; }
	chain postrouting { type nat hook postrouting priority srcnat; jump postrouting_miniupnpd; meta nfproto ipv4 oifname "wan" masquerade; }
}`)
	return h
}

// start runs a command on the router.
func (h *home) start(name string, args ...string) *exec.Cmd {
	h.t.Helper()
	cmd := exec.Command(name, args...)
	log, err := os.Create(filepath.Join(h.dir, filepath.Base(name)+".log"))
	must(h.t, "log", err)
	h.t.Cleanup(func() { _ = log.Close() })
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	in(h.t, h.router, func() { err = cmd.Start() })
	must(h.t, name, err)
	return cmd
}

func (h *home) sh(name string, args ...string) string {
	h.t.Helper()
	var out []byte
	var err error
	in(h.t, h.router, func() { out, err = exec.Command(name, args...).CombinedOutput() })
	if err != nil {
		h.t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

func (h *home) rules(text string) {
	h.t.Helper()
	file := filepath.Join(h.dir, "rules.nft")
	must(h.t, "rules", os.WriteFile(file, []byte(text), 0o600))
	h.sh("nft", "-f", file)
}

// deaf has the router not hear what matches a rule.
func (h *home) deaf(rule string) {
	h.t.Helper()
	if rule != "" {
		h.rules("table inet deaf {\nchain input {\ntype filter hook input priority 0\n" + rule + "\n}\n}\n")
	}
}

// daemon is a router's, with its usual settings and these.
func (h *home) daemon(settings ...string) (stop func()) {
	h.t.Helper()
	l := append([]string{
		"ext_ifname=wan", "listening_ip=lan", "http_port=5000", "secure_mode=yes", "upnp_table_name=fw", "upnp_nat_table_name=nat",
		"upnp_forward_chain=miniupnpd", "upnp_nat_chain=prerouting_miniupnpd", "upnp_nat_postrouting_chain=postrouting_miniupnpd",
		"min_lifetime=20", "system_uptime=no", "uuid=73a9cbcd-1e2f-4c1b-8f8a-4d7700000001",
		"allow 1024-65535 " + lanNet + " 1-65535", "deny 0-65535 0.0.0.0/0 0-65535",
	}, settings...)
	conf := filepath.Join(h.dir, "miniupnpd.conf")
	must(h.t, "configuration", os.WriteFile(conf, []byte(strings.Join(l, "\n")+"\n"), 0o600))
	cmd := h.start("miniupnpd", "-d", "-f", conf, "-P", filepath.Join(h.dir, "pid"))
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	stop = func() { _ = cmd.Process.Kill(); <-ended }
	h.t.Cleanup(func() {
		stop()
		if b, err := os.ReadFile(filepath.Join(h.dir, "miniupnpd.log")); err == nil && h.t.Failed() {
			h.t.Logf("miniupnpd: %s", b[max(0, len(b)-9000):])
		}
	})
	for end := time.Now().Add(patience); time.Now().Before(end); { // until it listens
		l := h.sh("ss", "-Hlnut")
		if (slices.Contains(settings, "enable_upnp=no") || strings.Contains(l, ":5000 ")) &&
			(slices.Contains(settings, "enable_natpmp=no") || strings.Contains(l, ":5351 ")) {
			return stop
		}
		select {
		case <-ended:
			b, _ := os.ReadFile(filepath.Join(h.dir, "miniupnpd.log"))
			h.t.Fatalf("miniupnpd ended: %s", b)
		case <-time.After(10 * time.Millisecond):
		}
	}
	h.t.Fatal("miniupnpd does not listen")
	return nil
}

// reach dials a mapping from the internet, as a super-node does.
func (h *home) reach(ctx context.Context, m Mapping) error {
	var conn net.Conn
	var err error
	in(h.t, h.beyond, func() {
		d := net.Dialer{Timeout: 2 * time.Second}
		conn, err = d.DialContext(ctx, "tcp", m.External.String())
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotReached, err)
	}
	return conn.Close()
}

// reached waits until a mapping that must lead here does.
func (h *home) reached(m Mapping) {
	h.t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err = h.reach(h.t.Context(), m); err == nil {
			return
		}
	}
	h.t.Errorf("%v: %v", m, err)
}

// rogue has the router's address and that of another machine of the LAN answer searches, with descriptions at the machine on
// the other side and at the rogue itself, and counts who comes there.
func (h *home) rogue() (dialled func() int32) {
	h.t.Helper()
	var count atomic.Int32
	h.sh("ip", "addr", "add", "192.168.77.66/24", "dev", "lan")
	trap := func(ns netns.NsHandle, at string) {
		var l net.Listener
		var err error
		in(h.t, ns, func() { l, err = net.Listen("tcp4", at) })
		must(h.t, "trap", err)
		h.t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				count.Add(1)
				_ = c.Close()
			}
		}()
	}
	trap(h.beyond, "192.0.1.9:5000")
	trap(h.router, "192.168.77.66:5000")
	lan, err := h.nl.LinkByName("lan")
	must(h.t, "lan", err)
	// It answers from the address of whichever socket heard the search; the group's searches it answers from all.
	var rogues []*net.UDPConn
	pointing := make(map[*net.UDPConn][]string)
	listen := func(f func() (*net.UDPConn, error)) *net.UDPConn {
		var conn *net.UDPConn
		in(h.t, h.router, func() { conn, err = f() })
		must(h.t, "rogue", err)
		h.t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	for from, locations := range map[string][]string{
		"192.168.77.1":  {"http://192.0.1.9:5000/", "http://192.168.77.66:5000/", "http://192.168.77.1@192.0.1.9:5000/"},
		"192.168.77.66": {"http://192.168.77.66:5000/", "http://192.0.1.9:5000/"},
	} {
		conn := listen(func() (*net.UDPConn, error) {
			c := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { // beside the group's
				return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			}}
			p, err := c.ListenPacket(h.t.Context(), "udp4", from+":1900")
			if err != nil {
				return nil, err
			}
			return p.(*net.UDPConn), nil
		})
		rogues, pointing[conn] = append(rogues, conn), locations
	}
	group := listen(func() (*net.UDPConn, error) {
		return net.ListenMulticastUDP("udp4", &net.Interface{Index: lan.Attrs().Index, Name: "lan"}, &net.UDPAddr{IP: net.IPv4(239, 255, 255, 250), Port: 1900})
	})
	for _, heard := range append(rogues, group) {
		go func() {
			b := make([]byte, 2048)
			for {
				_, to, err := heard.ReadFromUDPAddrPort(b)
				if err != nil {
					return
				}
				for _, conn := range rogues {
					for _, l := range pointing[conn] {
						_, _ = conn.WriteToUDPAddrPort(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nST: %s\r\nLOCATION: %s\r\n\r\n", searchTargets[0], l), to)
					}
				}
			}
		}()
	}
	return count.Load
}
