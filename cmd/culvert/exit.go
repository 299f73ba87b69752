package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"culvert/node"
	"culvert/node/client"
	"culvert/node/localapi"
)

// Exit codes. Scripts rely on them.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // the command line, or what it asks for, cannot be right
	exitNoDaemon    = 3 // no agent, or for operator commands no operator, is running
	exitNotEnrolled = 4 // this agent is in no domain, or not in the one named
)

// Codes for programs beside those of the local API.
const (
	codeUsage       = "usage"
	codeFailed      = "failed"
	codeNoDaemon    = "no_daemon"
	codeDenied      = "denied"
	codeInterrupted = "interrupted"
)

// failure is an error as people and programs read it.
type failure struct {
	Message string `json:"error"` // what failed and why
	Code    string `json:"code"`
	Hint    string `json:"hint,omitempty"` // what to do

	exit int
}

func (f *failure) Error() string { return f.Message }

func (f *failure) withHint(format string, args ...any) *failure {
	f.Hint = fmt.Sprintf(format, args...)
	return f
}

// lines is the message for people: where routes failed, each on a line of its own.
func (f *failure) lines() string {
	if f.Code != string(localapi.RouteFailed) || !strings.Contains(f.Message, "; ") {
		return f.Message
	}
	return strings.ReplaceAll(strings.Replace(f.Message, ": ", ":\n  ", 1), "; ", "\n  ")
}

// usagef is an error of whoever wrote the command line.
func usagef(format string, args ...any) *failure {
	return &failure{Message: fmt.Errorf(format, args...).Error(), Code: codeUsage, exit: exitUsage}
}

// report prints an error and returns the exit code.
func report(w io.Writer, cmd *cobra.Command, args []string, err error) int {
	f := explain(err)
	if f.Code == codeUsage && f.Hint == "" {
		f.Hint = "usage: " + cmd.UseLine() + "\nsee " + cmd.CommandPath() + " --help"
	}
	// The flag may stand behind the one that could not be read, so it is looked for in the words themselves.
	if asked, _ := cmd.Flags().GetBool("json"); asked || slices.Contains(args, "--json") {
		_ = printJSON(w, f)
		return f.exit
	}
	fmt.Fprintf(w, "culvert: %s\n", f.lines())
	if f.Hint != "" {
		fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(f.Hint, "\n", "\n  "))
	}
	return f.exit
}

// explain finds what an error means for people, programs and the exit code.
func explain(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var executed *ran
	if !errors.As(err, &executed) {
		return usagef("%s", strings.TrimSpace(err.Error()))
	}
	var answer *client.Error
	switch {
	case errors.As(err, &answer):
		f = &failure{Message: answer.Message, Code: answer.Code, Hint: answer.Hint, exit: exitFailed}
		switch localapi.Code(answer.Code) {
		case localapi.NotEnrolled:
			f.exit = exitNotEnrolled
		case localapi.BadRequest:
			f.exit = exitUsage
		}
		return f
	case errors.Is(err, node.ErrNotEnrolled):
		return notEnrolled()
	case errors.Is(err, client.ErrNoDaemon):
		return &failure{Message: err.Error(), Code: codeNoDaemon, exit: exitNoDaemon}
	case errors.Is(err, client.ErrDenied):
		return &failure{
			Message: err.Error(), Code: codeDenied, exit: exitFailed,
			Hint: "become a member of the group culvert, or run an agent of your own with --data DIR",
		}
	case errors.Is(err, context.Canceled):
		return &failure{Message: "interrupted", Code: codeInterrupted, exit: exitFailed}
	}
	return &failure{Message: err.Error(), Code: codeFailed, exit: exitFailed}
}

func notEnrolled() *failure {
	return &failure{
		Message: "this agent is in no domain yet", Code: string(localapi.NotEnrolled), exit: exitNotEnrolled,
		Hint: "ask the operator for a token and run: culvert join TOKEN",
	}
}
