package operator

import (
	"bytes"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"culvert/dht/sqlite/faultdisk"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

// `make faults` cuts two hundred times.
var powerCuts = flag.Int("cuts", 40, "how often TestPowerCuts cuts the power")

// onDisk makes an operator with the domain acme on a disk that fails when told to.
func onDisk(t *testing.T) (dir string, disk *faultdisk.Disk) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "op")
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
	return dir, faultdisk.New(t, dir)
}

// The power is cut at any moment: what was acknowledged is there, and registry, records, outbox and audit log agree.
func TestPowerCuts(t *testing.T) {
	dir, disk := onDisk(t)
	r := rand.New(rand.NewPCG(4, 4))
	acked := make(acknowledged)
	closing := 0
	cuts := *powerCuts
	if testing.Short() {
		cuts = min(cuts, 12)
	}
	for i := range cuts {
		disk.CutAfter(1 + r.IntN(400))
		stop := -1
		if i%4 == 0 {
			stop = r.IntN(4)
		}
		o, err := Open(t.Context(), dir, Options{})
		for n := 0; err == nil && n != stop; n++ {
			err = changeAll(t.Context(), o, n, acked.add)
		}
		if err != nil && (!disk.Off() || !errors.Is(err, ErrNoRoom)) {
			t.Fatalf("cut %d: %v", i, err)
		}
		if o != nil {
			if cerr := o.Close(); cerr != nil && !disk.Off() {
				t.Fatalf("cut %d: %v", i, cerr)
			}
		}
		if !disk.Off() {
			closing++
		}
		if err := disk.PowerOn(r); err != nil {
			t.Fatal(err)
		}
		if o, err = Open(t.Context(), dir, Options{}); err != nil {
			t.Fatalf("after cut %d: %v", i, err)
		}
		checkAgreement(t, o, acked)
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
		integrity(t, filepath.Join(dir, dbFile))
		if t.Failed() {
			t.Fatalf("after cut %d", i)
		}
	}
	t.Logf("%d power cuts, %d of them after the operator had closed: %d tokens, %d nodes, %d devices, %d revocations acknowledged, none lost, the database whole",
		cuts, closing, len(acked["token"]), len(acked["node"]), len(acked["device"]), len(acked["revoked"]))
	if len(acked["node"]) < cuts/4 {
		t.Errorf("the test did little: %d nodes", len(acked["node"]))
	}
}

func integrity(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var line string
	if err := db.QueryRow("PRAGMA integrity_check").Scan(&line); err != nil || line != "ok" {
		t.Fatalf("integrity: %s %v", line, err)
	}
}

// The disk runs full in the middle of the operator's work, wherever that is then: every refusal says so, nothing is half done,
// reads go on, and with room again everything works, without a restart.
func TestDiskFull(t *testing.T) {
	dir, disk := onDisk(t)
	var log bytes.Buffer
	clock := &clock{t: time.Now()}
	o, err := Open(t.Context(), dir, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	r := rand.New(rand.NewPCG(5, 5))
	acked := make(acknowledged)
	ctx := t.Context()
	refused := 0
	rounds := 20
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		clock.add(2 * complainEvery)
		if err := changeAll(ctx, o, round, acked.add); err != nil {
			t.Fatalf("round %d, with room: %v", round, err)
		}
		tok := newToken(t, o, TokenSpec{Domain: "acme"})
		keys := newKeys(t)
		disk.Full(int64(r.IntN(3) * r.IntN(60_000)))
		for n := 0; n < 200; n++ {
			if err = changeAll(ctx, o, n, acked.add); err != nil {
				break
			}
		}
		if !errors.Is(err, ErrNoRoom) || !strings.Contains(err.Error(), "nothing was changed") {
			t.Fatalf("round %d, without room: %v", round, err)
		}
		for what, change := range map[string]func() error{
			"token":    func() error { _, err := o.CreateToken(ctx, admin, TokenSpec{Domain: "acme"}); return err },
			"domain":   func() error { _, err := o.AddDomain(ctx, admin, fmt.Sprint("d", round)); return err },
			"devices":  func() error { _, err := o.AddDevices(ctx, admin, manyPrinters(round)); return err },
			"enrolled": func() error { _, err := o.Enroll(ctx, enrol.NewEnrollRequest(tok, keys, "n"), ""); return err },
		} {
			before := registered(t, o)
			if err := change(); err == nil {
				continue // a little room may be left in what the database already has
			} else if !errors.Is(err, ErrNoRoom) {
				t.Fatalf("round %d: %s without room: %v", round, what, err)
			}
			refused++
			if after := registered(t, o); after != before {
				t.Fatalf("round %d: %s was refused, and yet %s became %s", round, what, before, after)
			}
		}
		disk.Room()
		res, err := o.Enroll(ctx, enrol.NewEnrollRequest(tok, keys, "n"), "") // refused or not, the token was not lost
		if err != nil || len(res.Certificate) == 0 {
			t.Fatalf("round %d: enrol with room again: %v", round, err)
		}
		checkAgreement(t, o, acked)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d changes refused for want of room", refused)
	full, room := strings.Count(log.String(), "refused until there is room"), strings.Count(log.String(), "can be written again")
	if refused < rounds || full != rounds || room != rounds {
		t.Errorf("%d refused; %d lines say that the disk is full, %d that there is room again", refused, full, room)
	}
}

// What could not be kept is not told to anybody: the operator's own record stays the one in its database.
func TestDiskFullKeepsIdentity(t *testing.T) {
	dir, disk := onDisk(t)
	o, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	_, before, _ := o.Identity()
	disk.Full(0)
	if err := o.Announce(t.Context(), 7701); !errors.Is(err, ErrNoRoom) {
		t.Fatalf("announce without room: %v", err)
	}
	if _, now, _ := o.Identity(); !bytes.Equal(now, before) {
		t.Error("the operator goes by a record that it does not keep")
	}
	if p := o.Peers(); len(p) != 1 || p[0].Port() != 7700 {
		t.Errorf("the operator says it is at %v", p)
	}
	disk.Room()
	if err := o.Announce(t.Context(), 7701); err != nil {
		t.Fatal(err)
	}
	if _, now, _ := o.Identity(); bytes.Equal(now, before) {
		t.Error("with room again the record is still the old one")
	}
}

// One bit of the closed database changes: the operator opens it whole or says that it is damaged, and whatever it hands out
// that is not as it was signed is refused by whoever gets it.
func TestBitFlips(t *testing.T) {
	dir, _ := onDisk(t)
	o, err := Open(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	acked := make(acknowledged)
	for n := range 30 {
		if err := changeAll(t.Context(), o, n, acked.add); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, dbFile)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(8, 8))
	damaged, spoilt := 0, 0
	flips := 60
	if testing.Short() {
		flips = 20
	}
	for i := range flips {
		bad := bytes.Clone(good)
		bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := Open(t.Context(), dir, Options{})
		if err != nil {
			if errors.Is(err, ErrDamaged) {
				damaged++
			} else {
				spoilt++ // something signed that it rests on itself
			}
			continue
		}
		for raw, err := range o.StaticRecords(t.Context()) {
			if err != nil {
				t.Fatalf("flip %d: %v", i, err)
			}
			rec, err := protocol.ParseRecord(raw)
			if err == nil && rec.Table != protocol.TableOperatorNode {
				err = o.trust.CheckStatic(rec, time.Now())
			}
			if err != nil {
				spoilt++
			}
		}
		if err := o.Close(); err != nil {
			t.Fatalf("flip %d: %v", i, err)
		}
	}
	t.Logf("%d flips: %d times the file was damaged, %d times something signed, which nobody takes", flips, damaged, spoilt)
	if damaged == 0 {
		t.Error("no flip was noticed")
	}
}

func manyPrinters(round int) (l []DeviceSpec) {
	for i := range 50 {
		l = append(l, printer(fmt.Sprint("bulk-", round, "-", i)))
	}
	return l
}

// registered is what a change would change, as text; it is read while the disk is full.
func registered(t *testing.T, o *Operator) string {
	t.Helper()
	var out string
	err := o.db.View(t.Context(), func(tx *sqlite.Tx) error {
		domains, err := tx.Domains()
		nodes, nerr := tx.Nodes(0, protocol.ID{}, 1_000_000)
		devices, derr := tx.Devices(0, protocol.ID{}, 1_000_000)
		tokens, terr := tx.Tokens(0)
		lines, lerr := tx.AuditLog(0, 0, 1_000_000)
		waiting, werr := tx.OutboxSize(0)
		left := 0
		for _, k := range tokens {
			left += k.Left
		}
		out = fmt.Sprintf("%d domains, %d nodes, %d devices, %d tokens with %d uses left, %d lines of audit log, %d records to publish",
			len(domains), len(nodes), len(devices), len(tokens), left, len(lines), waiting)
		return errors.Join(err, nerr, derr, terr, lerr, werr)
	})
	if err != nil {
		t.Fatalf("read without room: %v", err)
	}
	return out
}
