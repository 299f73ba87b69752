package operator

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// crashDirEnv makes the test binary a writer that works in that directory until it is killed.
const crashDirEnv = "CULVERT_TEST_CRASH_DIR"

// crashChild changes the registry without end and says on stdout what has been acknowledged.
func crashChild(dir string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	o, err := Open(ctx, dir, Options{})
	fail(err)
	for i := 0; ; i++ {
		fail(changeAll(ctx, o, i, func(what, id string) { fmt.Println(what, id) }))
	}
}

// changeAll makes one change of each kind and says what has been acknowledged. Every token lets one node in, once.
func changeAll(ctx context.Context, o *Operator, i int, acked func(what, id string)) error {
	tok, err := o.CreateToken(ctx, admin, TokenSpec{Domain: "acme"})
	if err != nil {
		return err
	}
	acked("token", tok.ID)
	t, err := enrol.ParseToken(tok.Token)
	if err != nil {
		return err
	}
	keys, err := key.Generate(rand.Reader)
	if err != nil {
		return err
	}
	res, err := o.Enroll(ctx, enrol.NewEnrollRequest(t, keys, "n"), "")
	if err != nil {
		return err
	}
	r, err := protocol.ParseRecord(res.Certificate)
	if err != nil {
		return err
	}
	acked("node", r.Owner.String())
	other, err := key.Generate(rand.Reader)
	if err != nil {
		return err
	}
	if _, err := o.Enroll(ctx, enrol.NewEnrollRequest(t, other, "n"), ""); !errors.Is(err, enrol.ErrTokenUsed) {
		return fmt.Errorf("a token was spent twice: %w", err)
	}
	spec := printer(fmt.Sprintf("p%x", r.Owner[4:12]))
	spec.MAC, spec.Node = "", r.Owner.String()
	dev, err := o.AddDevice(ctx, admin, spec)
	if err != nil {
		return err
	}
	acked("device", dev.ID.String())
	if i%3 == 0 {
		if _, err := o.RevokeNode(ctx, admin, r.Owner.String()); err != nil {
			return err
		}
		acked("revoked", r.Owner.String())
	}
	return nil
}

// TestKilledAtAnyMoment kills the writer again and again. What it acknowledged must be there, and registry, records, outbox
// and audit log must agree.
func TestKilledAtAnyMoment(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "op")
	if _, err := Init(t.Context(), dir, InitOptions{Advertise: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	o, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	addDomain(t, o, "acme")
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	acked := make(acknowledged)
	for i := range 8 {
		runAndKill(t, dir, 3+i*5, acked)
	}
	if o, err = Open(t.Context(), dir, Options{}); err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	checkAgreement(t, o, acked)
	if len(acked["node"]) < 10 || outbox(t, o) == 0 {
		t.Errorf("the test did little: %d nodes", len(acked["node"]))
	}
}

// acknowledged is what a change has returned for, by kind.
type acknowledged map[string]map[string]bool

func (a acknowledged) add(what, id string) {
	if a[what] == nil {
		a[what] = make(map[string]bool)
	}
	a[what][id] = true
}

// runAndKill kills the writer once it has acknowledged n changes, wherever it is then.
func runAndKill(t *testing.T, dir string, n int, acked acknowledged) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	guard := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer guard.Stop()
	lines := bufio.NewScanner(out)
	for seen := 0; lines.Scan(); seen++ { // goes on to what was written before the kill
		what, id, ok := strings.Cut(lines.Text(), " ")
		if what == "error" || !ok {
			t.Fatalf("the writer failed: %s", lines.Text())
		}
		acked.add(what, id)
		if seen == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatalf("the writer ended by itself: %s", stderr.String())
	}
}

func checkAgreement(t *testing.T, o *Operator, acked acknowledged) {
	t.Helper()
	err := o.db.View(t.Context(), func(tx *sqlite.Tx) error {
		nodes, err := tx.Nodes(0, protocol.ID{}, 1_000_000)
		if err != nil {
			return err
		}
		tokens := make(map[string]bool)
		spent := make(map[protocol.Hash]int)
		have := make(map[string]bool)
		for _, n := range nodes {
			have[n.ID.String()] = true
			spent[n.Token]++
			checkNode(t, o, tx, n)
			if acked["revoked"][n.ID.String()] && n.Revoked.IsZero() {
				t.Errorf("node %s: an acknowledged revocation is lost", n.ID.Short())
			}
		}
		ks, err := tx.Tokens(0)
		if err != nil {
			return err
		}
		for _, k := range ks {
			tokens[shortHash(k.Hash)] = true
			if spent[k.Hash] != k.Uses-k.Left {
				t.Errorf("token %s: %d nodes for %d uses taken", shortHash(k.Hash), spent[k.Hash], k.Uses-k.Left)
			}
		}
		devs, err := tx.Devices(0, protocol.ID{}, 1_000_000)
		if err != nil {
			return err
		}
		for _, d := range devs {
			have[d.ID.String()] = true
			if _, found, err := o.current(tx, protocol.TableEndDevice, d.ID); err != nil || !found {
				t.Errorf("device %s has no record: %v", d.ID.Short(), err)
			}
		}
		for _, what := range []string{"node", "device"} {
			for id := range acked[what] {
				if !have[id] {
					t.Errorf("acknowledged %s %s is lost", what, id)
				}
			}
		}
		for id := range acked["token"] {
			if !tokens[id] {
				t.Errorf("acknowledged token %s is lost", id)
			}
		}
		lines, err := tx.AuditLog(0, 0, 1_000_000)
		count := make(map[string]int)
		for _, l := range lines {
			count[l.Action]++
		}
		if count["node.enrol"] != len(nodes) || count["device.add"] != len(devs) || count["token.create"] != len(ks) {
			t.Errorf("audit log %v for %d nodes, %d devices, %d tokens", count, len(nodes), len(devs), len(ks))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func checkNode(t *testing.T, o *Operator, tx *sqlite.Tx, n registry.Node) {
	t.Helper()
	r, found, err := o.current(tx, protocol.TableNode, n.ID)
	if err != nil || !found || !r.Expires.Equal(n.Expires) || !r.Issued.Equal(n.Issued) {
		t.Errorf("node %s and its record disagree: %v", n.ID.Short(), err)
	}
	_, revoked, err := o.current(tx, protocol.TableRevocation, n.ID)
	if err != nil || revoked == n.Revoked.IsZero() {
		t.Errorf("node %s revoked %v, record %v: %v", n.ID.Short(), !n.Revoked.IsZero(), revoked, err)
	}
}
