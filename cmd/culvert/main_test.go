package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// The test binary is the command, too: scripts call it by its name.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"culvert": main})
}

// Every script in testdata is a test of the command line: what it prints, where, and its exit code.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds:                scriptCommands(),
		Setup: func(e *testscript.Env) error {
			// No script meets an agent or a setting of whoever runs the tests.
			for _, name := range []string{"CULVERT_DATA", "XDG_STATE_HOME"} {
				e.Setenv(name, "")
			}
			e.Setenv("CULVERT_DATA", e.WorkDir+"/d")
			return os.MkdirAll(e.WorkDir+"/d", 0o700)
		},
	})
}
