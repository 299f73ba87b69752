//go:build linux && netlab

package netlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"culvert/bench/netlab/mesh"
)

// tools are what the scenarios run, with the Debian package of each.
var tools = map[string]string{
	"nft":           "nftables",
	"ippeveprinter": "cups-ipp-utils",
	"ipptool":       "cups-ipp-utils",
	"gs":            "ghostscript",
	"dbus-daemon":   "dbus-daemon",
	"unshare":       "util-linux",
}

// suite ends on Ctrl-C: every lab hangs from it, so each test then fails and
// cleans up after itself.
var suite context.Context

// program is the culvert under test.
var program string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var stop context.CancelFunc
	suite, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for tool, pkg := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintf(os.Stderr, "netlab: %v: install %s\n", err, pkg)
			return 1
		}
	}
	var err error
	if program, err = mesh.Binary(); err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
		return 1
	}
	return m.Run()
}
