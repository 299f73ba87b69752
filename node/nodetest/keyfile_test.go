package nodetest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"culvert/operator"
	"culvert/protocol/key"
)

// A daemon whose key others may read does not start, and says what to do.
func TestLooseKeyFile(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	a := m.enrolled("desk", "acme")
	l := must[[]string](t)(filepath.Glob(filepath.Join(a.dir, "memberships", "*", "node.key")))
	if len(l) != 1 {
		t.Fatal(l)
	}
	noError(t, os.Chmod(l[0], 0o644))
	cmd := exec.Command(must[string](t)(os.Executable()))
	cmd.Env = append(os.Environ(), envDir+"="+a.dir, envListen+"=127.0.0.1:0")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	var ended *exec.ExitError
	if err := cmd.Run(); !errors.As(err, &ended) || ended.ExitCode() != 1 || !has(errs.String(), "readable by others", l[0], "mode 0644", "chmod 600 "+l[0]) {
		t.Errorf("%v: %s", err, errs.String())
	}
	noError(t, os.Chmod(l[0], 0o600))
	a.start() // nothing was thrown away
	a.member("acme")

	m.stop()
	opKey := filepath.Join(m.opDir(), "keys", "operator.key")
	noError(t, os.Chmod(opKey, 0o644))
	_, err := operator.Open(t.Context(), m.opDir(), operator.Options{})
	if !errors.Is(err, key.ErrLooseMode) || !has(err.Error(), opKey, "0644", "chmod 600") {
		t.Errorf("operator: %v", err)
	}
}
