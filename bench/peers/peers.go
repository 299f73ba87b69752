package peers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path"
	"regexp"
	"runtime/debug"
	"slices"
	"time"

	"culvert/bench/echo"
	"culvert/bench/load"
	"culvert/bench/measure"
	"culvert/bench/proc"
)

// Parts are the processes of this package.
func Parts() map[string]proc.Part {
	return map[string]proc.Part{partProgram: runProgram, partTLS: tlsHalf, partQUIC: quicHalf, partYamux: yamuxHalf}
}

// paths are where programs are, by their name.
type paths map[string]string

// tunnel is a peer of the tunnels.
type tunnel struct {
	name     string
	programs []string // of which it consists
	start    func(context.Context, *running, paths, netip.AddrPort) (netip.AddrPort, error)
}

// Names of the peers that others are compared with.
const (
	SSH     = "ssh -L, aes128-gcm"
	SSHUsed = "ssh -L, its own choice of cipher"
	Stunnel = "stunnel4 pair"
	Haproxy = "haproxy pair, TLS"
	GoTLS   = "Go crypto/tls pair"
	QUIC    = "quic-go pair"
	Yamux   = "yamux over TLS pair"
	Coturn  = "coturn, STUN Binding"
	Memget  = "memcached, UDP get of 200 bytes"
)

var tunnels = []tunnel{
	{SSHUsed, []string{"ssh", "sshd"}, startSSH("chacha20-poly1305@openssh.com")},
	{SSH, []string{"ssh", "sshd"}, startSSH("aes128-gcm@openssh.com")},
	{Stunnel, []string{"stunnel4"}, startStunnel},
	{Haproxy, []string{"haproxy"}, startHaproxy},
	{GoTLS, nil, startPair(partTLS)},
	{Yamux, nil, startPair(partYamux)},
	{QUIC, nil, startPair(partQUIC)},
}

// answerers are the peers of the round trips.
var answerers = []struct {
	name, program string
	start         func(context.Context, *running, paths) (netip.AddrPort, error)
	asker         echo.Asker
}{
	{Coturn, "turnserver", startCoturn, binding{}},
	{Memget, "memcached", startMemcached, get{}},
}

// packages are the Debian packages that programs come in, and how they tell their version.
var packages = map[string]struct{ name, version string }{
	"ssh": {"openssh-client", "-V"}, "sshd": {"openssh-server", ""}, "stunnel4": {"stunnel4", "-version"}, "haproxy": {"haproxy", "-v"},
	"turnserver": {"coturn", "--version"}, "memcached": {"memcached", "-V"},
}

// Peers are the programs that were looked for.
type Peers struct {
	paths   paths
	missing []string
}

// Find looks for the programs; a daemon's folder need not be in an ordinary user's PATH.
func Find() *Peers {
	p := &Peers{paths: make(paths)}
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		path, err := exec.LookPath(name)
		if err != nil {
			path, err = exec.LookPath("/usr/sbin/" + name)
		}
		if err != nil {
			p.missing = append(p.missing, fmt.Sprintf("%s is not installed (Debian: apt-get install %s); what it stands for is left out", name, packages[name].name))
			continue
		}
		p.paths[name] = path
	}
	return p
}

// Only is without the programs that Debian ships, for where none may be needed.
func Only() *Peers { return &Peers{paths: make(paths)} }

// Missing says in words what is not installed.
func (p *Peers) Missing() []string { return p.missing }

var versionPattern = regexp.MustCompile(`\d+\.\d+[-.\w+~]*`)

// Versions are those of the programs, of quic-go and of yamux.
func (p *Peers) Versions(ctx context.Context) map[string]string {
	v := make(map[string]string)
	for name, path := range p.paths {
		if flag := packages[name].version; flag != "" {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			// Some say it on standard error and with an exit code of their own.
			out, _ := exec.CommandContext(ctx, path, flag).CombinedOutput()
			cancel()
			v[name] = versionPattern.FindString(string(out))
		}
	}
	if b, ok := debug.ReadBuildInfo(); ok {
		for _, d := range b.Deps {
			if name := path.Base(d.Path); name == "quic-go" || name == "yamux" {
				v[name] = d.Version
			}
		}
	}
	return v
}

// has reports whether all programs are there.
func (p *Peers) has(programs ...string) bool {
	return !slices.ContainsFunc(programs, func(n string) bool { return p.paths[n] == "" })
}

// Bench is the peers that run.
type Bench struct {
	Ways  []load.Way
	Cells []measure.Cell // round trips
	all   []*running
}

// Tunnels starts the peers of the tunnels that are there.
func (p *Peers) Tunnels(ctx context.Context, device netip.AddrPort) (*Bench, error) {
	b := &Bench{}
	for _, t := range tunnels {
		if !p.has(t.programs...) {
			continue
		}
		w, r, err := p.tunnel(ctx, t, device)
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.all, b.Ways = append(b.all, r), append(b.Ways, w)
	}
	return b, nil
}

func (p *Peers) tunnel(ctx context.Context, t tunnel, device netip.AddrPort) (w load.Way, r *running, err error) {
	r, to, err := begin(ctx, t.name, func(r *running) (netip.AddrPort, error) { return t.start(ctx, r, p.paths, device) })
	if err != nil {
		return w, nil, err
	}
	w = load.Way{Name: t.name, To: to, Procs: r.procs}
	w.Fresh = func(ctx context.Context) (load.Way, func() error, error) {
		w, r, err := p.tunnel(ctx, t, device)
		if err != nil {
			return w, nil, err
		}
		return w, r.close, nil
	}
	return w, r, nil
}

// attempts to start a peer: somebody may take the free port that was found for it.
const attempts = 3

func begin(ctx context.Context, name string, start func(*running) (netip.AddrPort, error)) (*running, netip.AddrPort, error) {
	for left := attempts - 1; ; left-- {
		r, err := newRunning()
		if err != nil {
			return nil, netip.AddrPort{}, err
		}
		to, err := start(r)
		if err == nil {
			return r, to, nil
		}
		err = errors.Join(fmt.Errorf("%s: %w", name, err), r.close())
		if left == 0 || ctx.Err() != nil {
			return nil, to, err
		}
	}
}

func newRunning() (*running, error) {
	dir, err := os.MkdirTemp("", "culvert-bench-")
	return &running{dir: dir}, err
}

// RoundTrips starts the peers of the round trips that are there.
func (p *Peers) RoundTrips(ctx context.Context) (*Bench, error) {
	b := &Bench{}
	for _, a := range answerers {
		if !p.has(a.program) {
			continue
		}
		r, to, err := begin(ctx, a.name, func(r *running) (netip.AddrPort, error) { return a.start(ctx, r, p.paths) })
		if err != nil {
			return nil, errors.Join(err, b.Close())
		}
		b.all = append(b.all, r)
		b.Cells = append(b.Cells, echo.Cell(a.name, to, echo.Batch, a.asker))
	}
	return b, nil
}

// Close ends the peers.
func (b *Bench) Close() error {
	var errs []error
	for _, r := range b.all {
		errs = append(errs, r.close())
	}
	return errors.Join(errs...)
}
