package peers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"culvert/bench/load"
	"culvert/bench/proc"
	"culvert/protocol/carrier"
)

const (
	partProgram = "peers-program"
	readyLimit  = 2 * time.Minute
	endLimit    = 30 * time.Second
	again       = 10 * time.Millisecond // between two looks whether something is there, or gone
)

// program is one that the system has.
type program struct {
	Path string
	Args []string
	Log  string         // file for what it prints
	At   netip.AddrPort // where it accepts TCP once it is ready
}

// runProgram is the part that runs one.
func runProgram(ctx context.Context, arg json.RawMessage, ready func(any) error) error {
	var p program
	if err := json.Unmarshal(arg, &p); err != nil {
		return err
	}
	log, err := os.Create(p.Log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Dir = filepath.Dir(p.Log)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	err = p.serve(ctx, cmd.Process.Pid, ended, ready)
	if errors.Is(err, errEnded) {
		return fmt.Errorf("%s: %w; it said: %s", p.Path, err, lastLines(p.Log))
	}
	return errors.Join(err, end(cmd.Process, ended))
}

var errEnded = errors.New("it ended by itself")

func (p program) serve(ctx context.Context, pid int, ended <-chan error, ready func(any) error) error {
	limit := time.NewTimer(readyLimit)
	defer limit.Stop()
	look := time.NewTicker(again)
	defer look.Stop()
	for there := false; !there; {
		select {
		case err := <-ended:
			return fmt.Errorf("%w: %w", errEnded, orExit(err))
		case <-ctx.Done():
			return nil
		case <-limit.C:
			return fmt.Errorf("%s accepts nothing at %s; it said: %s", p.Path, p.At, lastLines(p.Log))
		case <-look.C:
			if c, err := net.Dial("tcp", p.At.String()); err == nil {
				there = true
				_ = c.Close()
			}
		}
	}
	if err := ready(pid); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		return fmt.Errorf("%w: %w", errEnded, orExit(err))
	}
}

func orExit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// end ends a program and whatever it has started, by their numbers, and waits until all are gone.
func end(p *os.Process, ended <-chan error) error {
	children := load.Descendants(p.Pid)
	_ = p.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(endLimit, func() { _ = p.Kill() })
	<-ended // what it says of the signal is of no interest
	kill.Stop()
	deadline := time.Now().Add(endLimit)
	look := time.NewTicker(again)
	defer look.Stop()
	for _, pid := range children {
		for gone(pid) != nil {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d, started by a peer, does not end", pid)
			}
			<-look.C
		}
	}
	return nil
}

// gone is nil once a process has ended; until then it is told to.
func gone(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil || p.Signal(syscall.SIGTERM) != nil {
		return nil
	}
	return errors.New("it is there")
}

// lastLines are what a program said in the end.
func lastLines(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-1000):]))
}

// running is what stands for a peer. It ends in the opposite order of starting.
type running struct {
	dir   string
	procs []load.Proc
	ends  []func() error
}

// program starts one of the system's.
func (r *running) program(ctx context.Context, name, path string, at netip.AddrPort, args ...string) error {
	var pid int
	c, err := proc.Start(ctx, partProgram, program{Path: path, Args: args, Log: filepath.Join(r.dir, name+".log"), At: at}, &pid)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r.ends = append(r.ends, c.Close)
	r.procs = append(r.procs, load.Proc{Name: name, PID: pid})
	return nil
}

// part starts one of our own.
func (r *running) part(ctx context.Context, name string, arg, at any) error {
	c, err := proc.Start(ctx, name, arg, at)
	if err != nil {
		return err
	}
	r.ends = append(r.ends, c.Close)
	r.procs = append(r.procs, load.Proc{Name: name, PID: c.PID()})
	return nil
}

// file writes one of the peer's files.
func (r *running) file(name, content string) (string, error) {
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return "", fmt.Errorf("configure a peer: %w", err)
	}
	return path, nil
}

func (r *running) close() error {
	var errs []error
	for i := len(r.ends) - 1; i >= 0; i-- {
		errs = append(errs, r.ends[i]())
	}
	return errors.Join(append(errs, os.RemoveAll(r.dir))...)
}

// freePorts are ports that nobody listens at. Somebody may take one before the peer does: begin tries again then.
func freePorts(n int) ([]netip.AddrPort, error) {
	var l []netip.AddrPort
	for range n {
		p, err := carrier.FreePort()
		if err != nil {
			return nil, err
		}
		l = append(l, load.Local(p))
	}
	return l, nil
}
