// Package proctest runs the tests of packages whose parts are processes of the test itself.
package proctest

import (
	"fmt"
	"maps"
	"os"
	"testing"

	"go.uber.org/goleak"

	"culvert/bench/proc"
)

// Main is a TestMain: it runs the part that this process was started for, or else the tests, after which no goroutine may be
// left.
func Main(m *testing.M, parts ...map[string]proc.Part) {
	all := make(map[string]proc.Part)
	for _, p := range parts {
		maps.Copy(all, p)
	}
	ran, err := proc.Run(all)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !ran {
		goleak.VerifyTestMain(m)
	}
}
