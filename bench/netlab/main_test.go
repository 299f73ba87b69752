//go:build linux && netlab

package netlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"culvert/bench/netlab/mesh"
)

// tools are what the scenarios run, with the Debian package of each.
var tools = map[string]string{
	"nft":           "nftables",
	"ethtool":       "ethtool",
	"ippeveprinter": "cups-ipp-utils",
	"ipptool":       "cups-ipp-utils",
	"gs":            "ghostscript",
	"dbus-daemon":   "dbus-daemon",
	"setpriv":       "util-linux",
	"unshare":       "util-linux",
	"snmpd":         "snmpd",
	"snmpget":       "snmp",
	"ffmpeg":        "ffmpeg",
	"miniupnpd":     "miniupnpd-nftables",
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
	dir, err := os.MkdirTemp("", "netlab-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if program, err = install(dir); err != nil {
		fmt.Fprintln(os.Stderr, "netlab:", err)
		return 1
	}
	return m.Run()
}

// install puts the binary under test where agents, who are nobody, reach it: a
// checkout may lie in a home folder.
func install(dir string) (string, error) {
	from, err := mesh.Binary()
	if err != nil {
		return "", err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", err
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	to := filepath.Join(dir, "culvert")
	return to, os.WriteFile(to, b, 0o755)
}
