package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// insideVar marks the process that runs in the demo's own namespaces.
const insideVar = "CULVERT_DEMO_NAT"

// demoTools are where Debian keeps what an ordinary user's PATH leaves out.
const demoTools = "/usr/sbin:/sbin"

// runDemoNAT runs the demo between NATs: it starts this program again in namespaces of its own, in which it may build networks
// without being root.
func runDemoNAT(ctx context.Context, d *demo) error {
	os.Setenv("PATH", os.Getenv("PATH")+":"+demoTools)
	if os.Getenv(insideVar) != "" {
		return d.natStory(ctx)
	}
	for _, tool := range []string{"ip", "nft"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("demo --nat builds networks with the program %s, which is not installed (Debian: apt install iproute2 nftables)", tool)
		}
	}
	cmd := exec.CommandContext(ctx, d.bin, "demo", "--nat")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 2 * demoStopWait
	cmd.Stdout, cmd.Stderr = d.out, os.Stderr
	cmd.Env = append(demoEnv(), insideVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGTERM,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("this kernel does not let this user make namespaces (%w); sysctl kernel.unprivileged_userns_clone=1 or "+
			"kernel.apparmor_restrict_unprivileged_userns=0 may allow it, or run it as root", err)
	}
	if err := cmd.Wait(); err != nil {
		return errDemoInside
	}
	return nil
}

// natInside reports whether this is the process in the namespaces, which does the work and says how it ended.
func natInside() bool { return os.Getenv(insideVar) != "" }

// errDemoInside is a failure that the process in the namespaces has told the reader already.
var errDemoInside = errors.New("the demo between NATs failed; see above")

// demoNet is the demo's internet: a core, computers with public addresses, and three routers with a LAN each.
type demoNet struct {
	maps  bool // the office's router maps ports
	procs []*demoProcess
}

type demoSite struct{ name, wan, lan string }

func demoSites() []demoSite {
	return []demoSite{{"branch", "45.55.0", "192.168.50"}, {"home", "45.66.0", "192.168.1"}, {"office", "45.77.0", "192.168.70"}}
}

// natRules are a router's: it translates what leaves, and lets in only what was asked for from inside.
const natRules = `
table inet fw {
	chain miniupnpd { }
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "wan" ct state established,related accept
		iifname "wan" drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "wan" ct state established,related accept
		jump miniupnpd
		iifname "wan" drop
	}
}
table inet nat {
	chain prerouting_miniupnpd { }
	chain postrouting_miniupnpd { }
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump prerouting_miniupnpd
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		jump postrouting_miniupnpd
		oifname "wan" masquerade
	}
}
`

const upnpConfig = `ext_ifname=wan
listening_ip=lan
http_port=5000
enable_natpmp=yes
enable_upnp=yes
secure_mode=yes
uuid=6f1c1f4e-6d1c-4a7e-9f0e-3a8a1f0d7b11
upnp_table_name=fw
upnp_nat_table_name=nat
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
lease_file=%s
allow 1024-65535 192.168.70.0/24 1-65535
deny 0-65535 0.0.0.0/0 0-65535
`

// buildDemoNet makes the namespaces, cables, addresses, routes and rules.
func buildDemoNet(ctx context.Context, dir string) (*demoNet, error) {
	n := &demoNet{}
	// Names of namespaces are kept under /run: in this process's own view of the file system, of which nothing stays.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=0755"); err != nil {
		return nil, fmt.Errorf("mount /run: %w", err)
	}
	var script []string
	add := func(format string, args ...any) { script = append(script, fmt.Sprintf(format, args...)) }
	hosts := []string{"core"}
	host := func(name string) { hosts = append(hosts, name) }
	cable := func(a, aif, b, bif string) {
		add("link add %s netns %s address %s type veth peer name %s netns %s", aif, a, demoMAC(a+aif), bif, b)
		add("-n %s link set %s up", a, aif)
		add("-n %s link set %s up", b, bif)
	}
	public := func(name, prefix string) {
		host(name)
		cable(name, "wan", "core", "to-"+name)
		add("-n %s addr add %s.2/24 dev wan", name, prefix)
		add("-n core addr add %s.1/24 dev to-%s", prefix, name)
		add("-n %s route add default via %s.1", name, prefix)
	}
	public("operator", "45.11.0")
	public("super-1", "45.22.0")
	public("super-2", "45.33.0")
	for _, s := range demoSites() {
		router := s.name + "-nat"
		public(router, s.wan)
		add("-n %s link add lan address %s type bridge", router, demoMAC(router))
		add("-n %s addr add %s.1/24 dev lan", router, s.lan)
		add("-n %s link set lan up", router)
		add("-n %s route add 224.0.0.0/4 dev lan", router)
		inner := map[string]string{s.name: s.lan + ".10"}
		switch s.name {
		case "branch":
			inner["printer-1"] = s.lan + ".20"
		case "office":
			inner["printer-2"] = s.lan + ".20"
		}
		for name, addr := range inner {
			host(name)
			cable(name, "eth0", router, "to-"+name)
			add("-n %s link set to-%s master lan", router, name)
			add("-n %s addr add %s/24 dev eth0", name, addr)
			add("-n %s route add default via %s.1", name, s.lan)
		}
	}
	for _, h := range hosts {
		if err := demoTool(ctx, "ip", "", "netns", "add", h); err != nil {
			return nil, err
		}
		if err := demoTool(ctx, "ip", "", "-n", h, "link", "set", "lo", "up"); err != nil {
			return nil, err
		}
	}
	for _, line := range script {
		if err := demoTool(ctx, "ip", "", strings.Fields(line)...); err != nil {
			return nil, err
		}
	}
	for _, h := range []string{"core", "branch-nat", "home-nat", "office-nat"} {
		if err := n.inside(h, func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }); err != nil {
			return nil, fmt.Errorf("forwarding on %s: %w", h, err)
		}
		if h == "core" {
			continue
		}
		if err := demoTool(ctx, "ip", natRules, "netns", "exec", h, "nft", "-f", "-"); err != nil {
			return nil, err
		}
	}
	return n, n.startUPnP(ctx, dir)
}

// startUPnP runs the office's port mapping daemon, where it is installed.
func (n *demoNet) startUPnP(ctx context.Context, dir string) error {
	daemon, err := exec.LookPath("miniupnpd")
	if err != nil {
		return nil // the story goes on without, and says so
	}
	leases := filepath.Join(dir, "leases")
	conf := filepath.Join(dir, "miniupnpd.conf")
	if err := errors.Join(os.WriteFile(leases, nil, 0o600), os.WriteFile(conf, fmt.Appendf(nil, upnpConfig, leases), 0o600)); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "office-nat.log"))
	if err != nil {
		return err
	}
	p := &demoProcess{name: "miniupnpd", log: log, done: make(chan error, 1)}
	p.cmd = exec.Command("ip", "netns", "exec", "office-nat", daemon, "-d", "-f", conf, "-P", filepath.Join(dir, "miniupnpd.pid"))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	detach(p.cmd)
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := p.cmd.Start(); err != nil {
		log.Close()
		return fmt.Errorf("start miniupnpd: %w", err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	n.procs = append(n.procs, p)
	n.maps = true
	return nil
}

func (n *demoNet) stop() {
	for _, p := range n.procs {
		p.cmd.Process.Kill()
		<-p.done
		p.log.Close()
	}
	n.procs = nil
}

// prefix is how a command is run on one of the hosts.
func (n *demoNet) prefix(host string) []string { return []string{"ip", "netns", "exec", host} }

func (n *demoNet) summary() string {
	if n.maps {
		return "three routers with real NAT (nftables), one of them with miniupnpd"
	}
	return "three routers with real NAT (nftables); miniupnpd is not installed, so none of them maps ports"
}

// mac is a printer's, as on its label.
func (n *demoNet) mac(host string) string { return demoMAC(host + "eth0") }

// demoMAC is a locally administered address made from a name, the same in each run.
func demoMAC(name string) string {
	h := uint32(2166136261)
	for _, c := range []byte(name) {
		h = (h ^ uint32(c)) * 16777619
	}
	return net.HardwareAddr{0x02, 0x1b, byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}.String()
}

// inside runs f on a host's network: the thread goes there for good and ends with f. Sockets that f opens stay there.
func (n *demoNet) inside(host string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread must not be used for anything else
		done <- func() error {
			fd, err := os.Open("/run/netns/" + host)
			if err != nil {
				return err
			}
			defer fd.Close()
			if err := unix.Setns(int(fd.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the network of %s: %w", host, err)
			}
			return f()
		}()
	}()
	return <-done
}

// demoTool runs one of the network's tools to its end.
func demoTool(ctx context.Context, name, stdin string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &errs
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return nil
}
