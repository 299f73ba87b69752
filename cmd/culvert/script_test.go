package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"culvert/protocol/carrier"
)

// Bounds of what scripts wait for; nothing comes near them unless something is broken.
const (
	scriptWait = 2 * time.Minute
	scriptPoll = 50 * time.Millisecond
)

func scriptCommands() map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"exits":    exits,
		"await":    await,
		"set":      set,
		"freeport": freeport,
		"echo":     echo,
		"send":     send,
		"json":     jsonField,
		"consent":  consent,
		"socks":    socksSend,
	}
}

func want(ts *testscript.TestScript, neg bool, ok bool, usage string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", usage)
	}
}

// exits CODE COMMAND ARG…: the command ends with this exit code; stdout and stderr are then at hand.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) >= 2, "exits CODE COMMAND ARG…")
	code, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		got = ended.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != code {
		ts.Fatalf("exit code %d, not %d", got, code)
	}
}

// until repeats what a busy machine may let fail, until it is done or the time is over.
func until(done func() bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), scriptWait)
	defer cancel()
	tick := time.NewTicker(scriptPoll)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// await TEXT COMMAND ARG…: the command is repeated until it succeeds and its output has the text in it.
func await(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) >= 2, "await TEXT COMMAND ARG…")
	var err error
	if !until(func() bool {
		err = ts.Exec(args[1], args[2:]...)
		return err == nil && strings.Contains(ts.ReadFile("stdout"), args[0])
	}) {
		ts.Fatalf("%v never printed %q: %v", args[1:], args[0], err)
	}
}

// set NAME: what the last command printed becomes a variable.
func set(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "set NAME")
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// json PATH [NAME]: the field of what the last command printed becomes a variable, or with ! is not there. Parts of a path are
// separated by dots, elements of arrays named by number.
func jsonField(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: [!] json PATH [NAME]")
	}
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &v))
	value, ok := dig(v, strings.Split(args[0], "."))
	switch {
	case ok == neg:
		ts.Fatalf("%s is there: %v", args[0], ok)
	case ok && len(args) == 2:
		ts.Setenv(args[1], fmt.Sprint(value))
	}
}

func dig(v any, path []string) (any, bool) {
	for _, part := range path {
		switch in := v.(type) {
		case map[string]any:
			next, ok := in[part]
			if !ok {
				return nil, false
			}
			v = next
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(in) {
				return nil, false
			}
			v = in[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// freeport NAME…: each variable is a port number that is free on loopback.
func freeport(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) > 0, "freeport NAME…")
	for _, name := range args {
		port, err := carrier.FreePort()
		ts.Check(err)
		ts.Setenv(name, strconv.Itoa(int(port)))
	}
}

// echo NAME: a device that sends back what it gets; the variable is its port.
func echo(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 1, "echo NAME")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	ts.Check(err)
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(scriptWait))
				_, _ = io.Copy(c, c)
			})
		}
	})
	ts.Defer(func() {
		l.Close()
		conns.Wait()
	})
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

// send ADDR TEXT: the text goes to the address and comes back.
func send(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] send ADDR TEXT")
	}
	var got string
	var err error
	until(func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), scriptWait)
		defer cancel()
		got, err = sendJob(ctx, args[0], []byte(args[1]))
		return neg || got == args[1] || !strings.HasPrefix(args[1], got) // less than all is a way that broke
	})
	if ok := err == nil && got == args[1]; ok == neg {
		ts.Fatalf("%s answered %q, %v", args[0], got, err)
	}
}

// consent FILE DEVICE PORT: the agent with this configuration consents to serve the device.
func consent(ts *testscript.TestScript, neg bool, args []string) {
	want(ts, neg, len(args) == 3, "consent FILE DEVICE PORT")
	text := fmt.Sprintf("[[consent]]\ndevice = %q\nports = [%q]\n", args[1], args[2])
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
