//go:build netns && linux

package nat

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// TestMain runs the tests in a network namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv("NAT_NETNS") != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), "NAT_NETNS=inside")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	runtime.LockOSThread() // the child dies with the thread that started it
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "tests in a network namespace:", err)
		os.Exit(1)
	}
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// chain makes namespaces behind this one, each the next one's router: addresses are by cable, here and beyond.
func chain(t *testing.T, cables [][2]string) (last netns.NsHandle) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	must(t, "this namespace", err)
	defer home.Close()
	here, at := home, func(ns netns.NsHandle) *netlink.Handle {
		h, err := netlink.NewHandleAt(ns)
		must(t, "handle", err)
		t.Cleanup(h.Close)
		return h
	}
	raise := func(h *netlink.Handle, name, addr string) {
		l, err := h.LinkByName(name)
		must(t, name, err)
		a, err := netlink.ParseAddr(addr)
		must(t, addr, err)
		must(t, "add "+addr, h.AddrAdd(l, a))
		must(t, "up "+name, h.LinkSetUp(l))
	}
	for i, c := range cables {
		beyond, err := netns.New()
		must(t, "new namespace", err)
		t.Cleanup(func() { _ = beyond.Close() })
		if i < len(cables)-1 {
			must(t, "forward", os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
		}
		near, far := at(here), at(beyond)
		attrs := netlink.NewLinkAttrs()
		attrs.Name = fmt.Sprintf("down%d", i)
		must(t, "cable", near.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "up0", PeerNamespace: netlink.NsFd(beyond)}))
		t.Cleanup(func() {
			if l, err := near.LinkByName(attrs.Name); err == nil {
				_ = near.LinkDel(l) // the namespace that it is in may outlive this test
			}
		})
		raise(near, attrs.Name, c[0])
		raise(far, "up0", c[1])
		nearAddr, farAddr := netip.MustParsePrefix(c[0]).Addr(), netip.MustParsePrefix(c[1]).Addr()
		must(t, "way back", far.RouteAdd(&netlink.Route{Gw: net.IP(nearAddr.AsSlice())}))
		if i < len(cables)-1 {
			must(t, "way out", near.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4(198, 51, 100, 0), Mask: net.CIDRMask(24, 32)}, Gw: net.IP(farAddr.AsSlice())}))
		}
		here = beyond
	}
	must(t, "go home", netns.Set(home))
	return here
}

// The second router on the way says that a datagram has died there, and a server that is that near answers.
func TestHop(t *testing.T) {
	server := chain(t, [][2]string{
		{"192.168.7.2/24", "192.168.7.1/24"}, {"100.64.0.2/24", "100.64.0.1/24"}, {"198.51.100.1/24", "198.51.100.9/24"},
	})
	runtime.LockOSThread()
	home, err := netns.Get()
	must(t, "this namespace", err)
	must(t, "enter", netns.Set(server))
	c, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 7700})
	must(t, "listen", err)
	must(t, "go home", netns.Set(home))
	runtime.UnlockOSThread()
	defer c.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var buf [1500]byte
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf[:])
			if err != nil {
				return
			}
			if a, err := (Responder{}).Answer(buf[:n], from); err == nil {
				_, _ = c.WriteToUDPAddrPort(a, from)
			}
		}
	}()
	defer func() { c.Close(); <-done }()
	to := netip.MustParseAddrPort("198.51.100.9:7700")
	// The kernel takes its time to let the last cable carry anything, and a router may say less than it is asked.
	answered := func(hops int) (hop netip.Addr, reached bool, err error) {
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
			if hop, reached, err = Hop(t.Context(), to, hops, Request(Transaction{1})); err != nil || reached || hop.IsValid() {
				break
			}
		}
		return hop, reached, err
	}
	if _, reached, err := answered(3); err != nil || !reached {
		t.Fatalf("the server: %v, %v", reached, err)
	}
	for hops, want := range map[int]string{1: "192.168.7.1", 2: "100.64.0.1"} {
		hop, reached, err := answered(hops)
		if err != nil || reached || hop.String() != want {
			t.Errorf("%d hops: %v %v, %v", hops, hop, reached, err)
		}
	}
	if hop, reached, err := Hop(t.Context(), netip.MustParseAddrPort("198.51.100.77:1"), 9, Request(Transaction{1})); err != nil || reached || hop.IsValid() {
		t.Errorf("nobody: %v %v, %v", hop, reached, err)
	}
}
