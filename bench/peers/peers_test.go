package peers

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/bench/load"
	"culvert/bench/measure"
	"culvert/bench/proc/proctest"
)

func TestMain(m *testing.M) { proctest.Main(m, Parts(), load.Parts()) }

var few = load.Size{Streams: 4, AtOnce: 8, Idle: 20}

// The pairs in Go need nothing that is not in this repository: every cell of theirs runs for some milliseconds.
func TestGoPairs(t *testing.T) { everyCell(t, Only(), []string{GoTLS, Yamux, QUIC}) }

func everyCell(t *testing.T, p *Peers, want []string) {
	t.Helper()
	d, at, err := load.StartDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.Tunnels(t.Context(), at)
	if err != nil {
		t.Fatal(errors.Join(err, d.Close()))
	}
	var names []string
	for _, w := range b.Ways {
		names = append(names, w.Name)
	}
	if fmt.Sprint(names) != fmt.Sprint(want) {
		t.Errorf("ways %q", names)
	}
	for _, g := range load.Tables(b.Ways, few) {
		rows, err := measure.Run(t.Context(), g, 1, 20*time.Millisecond)
		if err != nil {
			t.Error(err)
		}
		for _, r := range rows.Rows {
			t.Logf("%-45s %-30s %.1f %s", g.Title, r.Name, r.Runs, r.Unit)
		}
	}
	if err := errors.Join(b.Close(), d.Close()); err != nil {
		t.Error(err)
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	p := Find()
	for _, m := range p.Missing() {
		if !strings.Contains(m, "is not installed (Debian: apt-get install ") {
			t.Error(m)
		}
	}
	// Those in /usr/sbin are found there without PATH; the clients are not.
	if p.has("ssh") || !strings.Contains(strings.Join(p.Missing(), "\n"), "openssh-client") {
		t.Errorf("ssh is found nowhere, and %q", p.Missing())
	}
	if p.has("ssh", "sshd") || !p.has() {
		t.Error("a peer of which half is missing is there")
	}
}

// start starts what stands for a program of the system; the device accepts in its place.
func start(t *testing.T, at netip.AddrPort, args ...string) (*running, error) {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	r, err := newRunning()
	if err != nil {
		t.Fatal(err)
	}
	return r, r.program(t.Context(), "sh", sh, at, args...)
}

func TestProgramThatEndsSaysWhy(t *testing.T) {
	ports, err := freePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	r, err := start(t, ports[0], "-c", "echo no such cipher; exit 3")
	if err == nil {
		t.Error("it is ready")
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
	var p program
	p.Log = filepath.Join(t.TempDir(), "log")
	p.Path, p.Args, p.At = "sh", []string{"-c", "echo no such cipher; exit 3"}, ports[0]
	arg, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	err = runProgram(t.Context(), arg, func(any) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "no such cipher") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("%v", err)
	}
}

func TestNothingOfAProgramIsLeft(t *testing.T) {
	if _, err := load.Using([]load.Proc{{PID: os.Getpid()}}); errors.Is(err, load.ErrUnknown) {
		return // nor does this system tell who started whom
	}
	d, at, err := load.StartDevice(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := start(t, at, "-c", "sleep 600 & sleep 600; true")
	if err != nil {
		t.Fatal(err)
	}
	var children []int
	for look := time.NewTicker(time.Millisecond); len(children) < 2; <-look.C {
		children = load.Descendants(r.procs[0].PID)
	}
	if err := r.close(); err != nil {
		t.Error(err)
	}
	for _, pid := range append(children, r.procs[0].PID) {
		if _, err := load.Using([]load.Proc{{Name: "sh", PID: pid}}); err == nil {
			t.Errorf("process %d is there", pid)
		}
	}
	if _, err := os.Stat(r.dir); err == nil {
		t.Errorf("%s is there", r.dir)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnswersOfPeersAreChecked(t *testing.T) {
	b := make([]byte, 300)
	if n := (binding{}).Ask(b, 7); n != stunHead || (binding{}).Check(b[:n]) == nil {
		t.Error("a request passes as the answer")
	}
	n := get{}.Ask(b, 7)
	answer := append(b[:8:8], "VALUE "+key+" 0 200\r\n"+value+"\r\nEND\r\n"...)
	if (get{}).Check(answer) != nil || (get{}).Check(b[:n]) == nil || (get{}).Check(append(b[:8:8], "END\r\n"...)) == nil {
		t.Error("answers of memcached are told apart wrongly")
	}
}
