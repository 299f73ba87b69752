//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outputGrace is how long a grandchild may hold a pipe open after its parent
// has ended.
const outputGrace = 2 * time.Second

// A Process is a program that was started on a host and runs until it ends,
// is stopped, or the lab is closed.
type Process struct {
	host  *Host
	label string
	log   string
	cmd   *exec.Cmd
	done  chan struct{}
	err   error // set before done is closed

	mu    sync.Mutex
	ended bool // its group may no longer be signalled
}

// Start runs a program on the host; both its outputs are kept in a log file.
// env is added to the environment of this process.
func (h *Host) Start(env []string, argv ...string) (*Process, error) {
	if len(argv) == 0 {
		return nil, errors.New("no program named")
	}
	label := labelOf(argv)
	path := h.lab.logPath(h.name, label)
	log, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", label, err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	p, err := h.launch(h.lab.ctx, cmd, label, path)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.procs = append(h.procs, p)
	closed := h.closed
	h.mu.Unlock()
	if closed {
		p.Kill()
		return nil, ErrClosed
	}
	return p, nil
}

// labelOf is the program's name; one that runs another, such as setpriv, names
// it after a double dash.
func labelOf(argv []string) string {
	if i := slices.Index(argv, "--"); i >= 0 && i+1 < len(argv) {
		return filepath.Base(argv[i+1])
	}
	return filepath.Base(argv[0])
}

// launch starts cmd on the host's thread, in a process group of its own, so
// that Ctrl-C reaches this program only and children can be ended together.
func (h *Host) launch(ctx context.Context, cmd *exec.Cmd, label, log string) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := h.onThread(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", cmd.Path, h.name, err)
	}
	p := &Process{host: h, label: label, log: log, cmd: cmd, done: make(chan struct{})}
	go p.wait(ctx)
	return p, nil
}

// wait kills the group when ctx or the lab ends or the process has ended, and
// only then gives the number back, so that no other group can be hit.
func (p *Process) wait(ctx context.Context) {
	stopCaller := context.AfterFunc(ctx, p.killGroup)
	stopLab := context.AfterFunc(p.host.lab.ctx, p.killGroup)
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	p.killGroup()
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.err = p.cmd.Wait()
	stopCaller()
	stopLab()
	close(p.done)
}

func (p *Process) killGroup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		// It fails only where all have ended already.
		_ = unix.Kill(-p.cmd.Process.Pid, unix.SIGKILL)
	}
}

// Kill ends the process and its children at once, as kill -9 does, and waits.
func (p *Process) Kill() {
	p.killGroup()
	<-p.done
}

// Stop asks the process to end and waits; it returns an error when it does not
// end by itself within the time allowed, and kills it then.
func (p *Process) Stop(within time.Duration) error {
	timer := time.NewTimer(within)
	defer timer.Stop()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p, err)
	}
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p, within)
	}
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Outcome says how the process ended; ask after Done.
func (p *Process) Outcome() string { return p.cmd.ProcessState.String() }

// PID is the process's number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// String names the process for a report.
func (p *Process) String() string { return p.label + " on " + p.host.name }

// Tail is the last n bytes that the process has written.
func (p *Process) Tail(n int64) string {
	f, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// A Result is what a command that has ended left.
type Result struct {
	Stdout, Stderr []byte
	Code           int
}

// Run runs a command on the host to its end. A command that ran but failed is
// not an error here: its code is in the Result. A context that ends kills it.
func (h *Host) Run(ctx context.Context, env []string, argv ...string) (Result, error) {
	return h.run(ctx, nil, env, argv...)
}

func (h *Host) run(ctx context.Context, stdin io.Reader, env []string, argv ...string) (Result, error) {
	if len(argv) == 0 {
		return Result{}, errors.New("no program named")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	cmd.WaitDelay = outputGrace
	p, err := h.launch(ctx, cmd, labelOf(argv), "")
	if err != nil {
		return Result{}, err
	}
	<-p.done
	err = p.err
	res := Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Code: cmd.ProcessState.ExitCode()}
	if cause := errors.Join(ctx.Err(), h.lab.ctx.Err()); cause != nil {
		return res, fmt.Errorf("%s on %s: %w", labelOf(argv), h.name, cause)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		return res, fmt.Errorf("%s on %s: %w", labelOf(argv), h.name, err)
	}
	return res, nil
}
