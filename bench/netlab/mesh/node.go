//go:build linux

package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"culvert/bench/netlab/lab"
)

// BinaryVar is the environment variable that names the binary under test.
const BinaryVar = "CULVERT_BIN"

// nobody has no privileges: agents work without any (LOC-2).
const nobody = 65534

// shutdown is more than the product allows itself for a graceful stop, also on a slow machine.
const shutdown = time.Minute

// Binary is the binary under test, as an absolute path.
func Binary() (string, error) {
	path := os.Getenv(BinaryVar)
	if path == "" {
		return "", fmt.Errorf("%s is not set: it names the culvert binary under test; `make netlab` sets it", BinaryVar)
	}
	if info, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s: %w", BinaryVar, err)
	} else if info.IsDir() || info.Mode()&0o111 == 0 {
		return "", fmt.Errorf("%s: %s is not a program", BinaryVar, path)
	}
	return filepath.Abs(path)
}

// A CommandError is a command that ran and failed.
type CommandError struct {
	Args   []string
	Code   int
	Stderr string
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("culvert %s: exit code %d: %s", strings.Join(e.Args, " "), e.Code, strings.TrimSpace(e.Stderr))
}

// A node is one data folder on one host and the daemon that may run on it.
type node struct {
	run  []string // the binary, and what it is started by
	host *lab.Host
	dir  string
	env  []string // beside the data folder
	proc *lab.Process
	args []string // of the running daemon, for a restart
}

func newNode(bin string, h *lab.Host, dir string) (node, error) {
	n := node{run: []string{bin}, host: h, dir: filepath.Join(dir, h.Name())}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return node{}, fmt.Errorf("data folder of %s: %w", h.Name(), err)
	}
	return n, nil
}

// unprivileged has the node run as nobody, who owns its data folder.
func (n *node) unprivileged() error {
	id := strconv.Itoa(nobody)
	n.run = append([]string{"setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--no-new-privs", "--bounding-set=-all",
		"--pdeathsig", "KILL", "--"}, n.run...)
	if err := os.Chown(n.dir, nobody, nobody); err != nil {
		return fmt.Errorf("data folder of %s: %w", n.host.Name(), err)
	}
	return nil
}

// Host is where the node runs.
func (n *node) Host() *lab.Host { return n.host }

// Dir is its data folder.
func (n *node) Dir() string { return n.dir }

// Setenv gives the node's commands, and its daemon from the next start on,
// more environment: NAME=VALUE.
func (n *node) Setenv(env ...string) { n.env = append(n.env, env...) }

func (n *node) environ() []string { return append([]string{"CULVERT_DATA=" + n.dir}, n.env...) }

// Do runs a command with the node's data folder to its end and returns what it
// printed on stdout. The error of a failed command is a *CommandError.
func (n *node) Do(ctx context.Context, args ...string) (string, error) {
	res, err := n.host.Run(ctx, n.environ(), slices.Concat(n.run, args)...)
	if err != nil {
		return "", fmt.Errorf("culvert %s: %w", strings.Join(args, " "), err)
	}
	if res.Code != 0 {
		return "", &CommandError{Args: args, Code: res.Code, Stderr: string(res.Stderr)}
	}
	return strings.TrimSpace(string(res.Stdout)), nil
}

// read runs a command with --json and decodes what it prints.
func (n *node) read(ctx context.Context, into any, args ...string) error {
	out, err := n.Do(ctx, append(args, "--json")...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("culvert %s --json printed %q: %w", strings.Join(args, " "), out, err)
	}
	return nil
}

// start runs the daemon and returns when ready says so.
func (n *node) start(ctx context.Context, ready func() error, args ...string) error {
	if n.Running() {
		return fmt.Errorf("%s runs already", n.proc)
	}
	proc, err := n.host.Start(n.environ(), slices.Concat(n.run, args)...)
	if err != nil {
		return err
	}
	n.proc, n.args = proc, args
	return n.Await(ctx, "to be ready", ready)
}

// Await asks again until ready returns no error, the daemon ends, or ctx does.
func (n *node) Await(ctx context.Context, what string, ready func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		err := ready()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // the end of ctx cuts a try off, which says less than the one before
		}
		select {
		case <-n.proc.Done():
			return fmt.Errorf("%s ended while it was waited for %s (%s): %s", n.proc, what, n.proc.Outcome(), n.proc.Tail(1<<11))
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s %s: %w", n.proc, what, errors.Join(ctx.Err(), last))
		case <-tick.C:
		}
	}
}

// Running tells whether the daemon runs.
func (n *node) Running() bool {
	if n.proc == nil {
		return false
	}
	select {
	case <-n.proc.Done():
		return false
	default:
		return true
	}
}

// Kill is kill -9.
func (n *node) Kill() {
	if n.proc != nil {
		n.proc.Kill()
	}
}

// Stop ends the daemon gracefully.
func (n *node) Stop() error {
	if !n.Running() {
		return nil
	}
	return n.proc.Stop(shutdown)
}

// PID is the running daemon's.
func (n *node) PID() int { return n.proc.PID() }
