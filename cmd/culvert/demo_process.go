package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"culvert/node/localapi"
)

// demoProcess is one node of the demo: its own process, data directory and log.
type demoProcess struct {
	name string
	cmd  *exec.Cmd
	log  *os.File
	done chan error
}

const (
	demoStopWait = 5 * time.Second
	demoPoll     = 50 * time.Millisecond
)

func (d *demo) data(name string) string { return filepath.Join(d.dir, name) }

// start runs a node in the background.
func (d *demo) start(name string, args ...string) (*demoProcess, error) {
	args = append(args, "--data", d.data(name))
	d.showCommand(args)
	log, err := os.Create(filepath.Join(d.dir, name+".log"))
	if err != nil {
		return nil, err
	}
	p := &demoProcess{name: name, cmd: d.command(context.Background(), name, args), log: log, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	detach(p.cmd)
	if err := p.cmd.Start(); err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	d.procs = append(d.procs, p)
	return p, nil
}

// command is this program on a node's computer.
func (d *demo) command(ctx context.Context, name string, args []string) *exec.Cmd {
	args = append([]string{d.bin}, args...)
	if d.in != nil {
		args = append(d.in(name), args...)
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = demoEnv()
	return cmd
}

// demoEnv is the environment without what would steer the demo's nodes elsewhere.
func demoEnv() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "CULVERT_") {
			env = append(env, e)
		}
	}
	return env
}

// run runs a command to its end and returns what it printed.
func (d *demo) run(ctx context.Context, name string, args ...string) (stdout string, err error) {
	args = append(args, "--data", d.data(name))
	d.showCommand(args)
	return d.quiet(ctx, name, args...)
}

// quiet is run for commands that are not shown, or shown already.
func (d *demo) quiet(ctx context.Context, name string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := d.command(ctx, name, args)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s", strings.TrimSpace(errs.String()+" ("+err.Error()+")"))
	}
	return strings.TrimSpace(out.String()), nil
}

// untilReady asks a node for its status until ready says yes.
func (d *demo) untilReady(ctx context.Context, p *demoProcess, ready func(localapi.Status) bool) error {
	err := d.until(ctx, p, func() bool {
		s, err := d.quiet(ctx, p.name, "status", "--json", "--data", d.data(p.name))
		if err != nil {
			return false
		}
		var status localapi.Status
		return json.Unmarshal([]byte(s), &status) == nil && ready(status)
	})
	if err != nil {
		return fmt.Errorf("%s was not ready: %w", p.name, err)
	}
	return nil
}

// until asks again and again, until the answer is yes or the process, where there is one, has ended.
func (d *demo) until(ctx context.Context, p *demoProcess, ask func() bool) error {
	var ended chan error
	if p != nil {
		ended = p.done
	}
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	for !ask() {
		select {
		case err := <-ended:
			ended <- err // for stopAll
			return fmt.Errorf("it has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// stopAll ends the nodes one by one, the last first: whoever leaves can still say so to the others. Past the deadline they are
// killed.
func (d *demo) stopAll() {
	late := time.NewTimer(demoStopWait)
	defer late.Stop()
	patient := true
	for _, p := range slices.Backward(d.procs) {
		if patient {
			interrupt(p.cmd.Process)
			select {
			case err := <-p.done:
				p.done <- err
			case <-late.C:
				patient = false
			}
		}
		p.cmd.Process.Kill()
		<-p.done
		p.log.Close()
	}
	d.procs = nil
}

// showLogs prints the end of every node's log, for whoever has to find out why the demo failed.
func (d *demo) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(d.dir, "*.log"))
	for _, l := range logs {
		f, err := os.Open(l)
		if err != nil {
			continue
		}
		if st, err := f.Stat(); err == nil && st.Size() > 2000 {
			f.Seek(-2000, io.SeekEnd)
		}
		b, _ := io.ReadAll(io.LimitReader(f, 2000))
		f.Close()
		fmt.Fprintf(d.out, "\n--- end of %s\n%s\n", filepath.Base(l), bytes.TrimSpace(b))
	}
}
