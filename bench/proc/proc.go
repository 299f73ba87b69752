// Package proc runs parts of a benchmark as processes of their own, from the same executable: a server and its load share
// no heap, no collector and no scheduler, as two nodes share none.
//
// The parent starts itself again with a part's name in the environment. The child says on its standard output, in one line of JSON,
// where it is to be found, and ends when its standard input does: so also when the parent is killed.
package proc

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

const (
	partVariable = "CULVERT_BENCH_PART"
	argVariable  = "CULVERT_BENCH_ARGUMENT"
	readyWait    = 5 * time.Minute // the store is filled meanwhile, or a program started
	endWait      = 2 * time.Minute
)

// Part is what a child runs: it calls ready once and returns soon after ctx has ended.
type Part func(ctx context.Context, arg json.RawMessage, ready func(any) error) error

// Child is a part that runs.
type Child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	once  sync.Once
	err   error
}

// Start starts a part and waits until it is ready; what it said is read into at.
func Start(ctx context.Context, part string, arg, at any) (*Child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", part, err)
	}
	a, err := json.Marshal(arg)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", part, err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), partVariable+"="+part, argVariable+"="+string(a))
	if _, ok := os.LookupEnv("GORACE"); !ok {
		// Under the race detector each process would wait a second at its end; there are dozens.
		cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0")
	}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", part, err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", part, err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", part, err)
	}
	c := &Child{cmd: cmd, stdin: stdin}
	said := make(chan error, 1)
	go func() {
		line, err := bufio.NewReader(stdout).ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, at)
		}
		said <- err
	}()
	t := time.NewTimer(readyWait)
	defer t.Stop()
	select {
	case err = <-said:
		if err == nil {
			return c, nil
		}
	case <-t.C:
		err = context.DeadlineExceeded
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = cmd.Process.Kill()
	_ = c.Close()
	return nil, fmt.Errorf("start %s: it was never ready: %w", part, err)
}

// PID is the child's process number.
func (c *Child) PID() int { return c.cmd.Process.Pid }

// Close ends the child and waits for it.
func (c *Child) Close() error {
	c.once.Do(func() {
		_ = c.stdin.Close()
		kill := time.AfterFunc(endWait, func() { _ = c.cmd.Process.Kill() })
		defer kill.Stop()
		if err := c.cmd.Wait(); err != nil {
			c.err = fmt.Errorf("part of the benchmark: %w", err)
		}
	})
	return c.err
}

// Run runs the part that this process was started for; ran is false where it is nobody's child.
func Run(parts map[string]Part) (ran bool, err error) {
	name, ok := os.LookupEnv(partVariable)
	if !ok {
		return false, nil
	}
	part, ok := parts[name]
	if !ok {
		return true, fmt.Errorf("benchmark has no part %q", name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	stop := func() error { return nil }
	err = part(ctx, json.RawMessage(os.Getenv(argVariable)), func(v any) (err error) {
		if stop, err = profilePart(name); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(v)
	})
	err = errors.Join(err, stop())
	if err != nil {
		return true, fmt.Errorf("part %s: %w", name, err)
	}
	return true, nil
}
