// Command culvert is the whole product in one binary: the agent, its command line, and the operator.
//
// Every command is a file of its own. Data goes to stdout and everything else to stderr; --json prints one object or array,
// and errors as an object too. The exit code tells programs what happened: see exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker, see the Makefile.
var version string

func main() { os.Exit(run(os.Args[1:])) }

// run is one call of the command line. The first interrupt ends it gracefully, the second at once.
func run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer context.AfterFunc(ctx, stop)()

	root := newRootCmd()
	root.SetArgs(args)
	root.SetOut(os.Stdout)
	root.SetErr(os.Stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitDone
	}
	return report(os.Stderr, cmd, args, err)
}

// buildVersion is what this binary is: what the linker was told, else what the Go tool noted.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
