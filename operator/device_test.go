package operator

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"culvert/operator/sqlite"
	"culvert/protocol"
)

var place = strings.Repeat("ab", 32)

func printer(name string) DeviceSpec {
	h := sha256.Sum256([]byte(name))
	return DeviceSpec{Name: name, Domain: "acme", MAC: fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", h[0], h[1], h[2], h[3], h[4]),
		Ports: []string{"631", "161/udp"}, Locations: []string{place}}
}

// opened is a device's record as a member of its domain reads it.
func opened(t *testing.T, o *Operator, id protocol.ID) (*protocol.Record, protocol.EndDeviceValue, *protocol.DomainSecrets) {
	t.Helper()
	r := static(t, o, protocol.TableEndDevice, id)
	if r == nil {
		t.Fatal("no record")
	}
	var s *protocol.DomainSecrets
	if err := o.db.View(t.Context(), func(tx *sqlite.Tx) error {
		d, err := tx.Domain(id.Domain())
		if err != nil {
			return err
		}
		given, err := o.secrets(tx, d)
		if err != nil {
			return err
		}
		s, err = given.At(o.now())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var v protocol.EndDeviceValue
	if !r.Tombstone {
		plain, err := s.OpenValue(r.Table, r.Owner, r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if err := protocol.Unmarshal(plain, &v); err != nil {
			t.Fatal(err)
		}
	}
	return r, v, s
}

func TestDeviceLife(t *testing.T) {
	o, _ := newOperator(t)
	d := addDomain(t, o, "acme")
	spec := printer("P1")
	spec.MAC, spec.TLSKey, spec.Allow = "02-11-22-AA-BB-CC", strings.Repeat("01", 32), []string{"staff"}
	spec.Ports = append(spec.Ports, "9100=staff+it")
	v, err := o.AddDevice(t.Context(), admin, spec)
	if err != nil {
		t.Fatal(err)
	}
	mac, pin := []byte{2, 0x11, 0x22, 0xaa, 0xbb, 0xcc}, slices.Repeat([]byte{1}, 32)
	if want := protocol.NewID(d, sha256.Sum256(slices.Concat(mac, pin))); v.ID != want {
		t.Errorf("ID %v, want %v", v.ID, want)
	}
	r, val, s := opened(t, o, v.ID)
	if val.Name != "P1" || !slices.Equal(val.MAC, mac) || len(val.Ports) != 3 || val.Ports[1].Protocol != protocol.UDP ||
		!slices.Equal(val.Ports[2].Allow, []string{"staff", "it"}) || !slices.Equal(val.TLSPin, pin) || len(val.Locations) != 1 {
		t.Errorf("value %+v", val)
	}
	if !r.HasKey(protocol.NewID(d, s.NameKey("p1"))) {
		t.Error("not to be found by name")
	}
	if strings.Contains(string(r.Raw()), "P1") || strings.Contains(string(r.Raw()), string(mac)) {
		t.Error("the record shows name or MAC to super-nodes")
	}
	name, ports := "Printer-1", []string{"80"}
	u, err := o.UpdateDevice(t.Context(), admin, "p1@acme", DevicePatch{Name: &name, Ports: &ports})
	if err != nil {
		t.Fatal(err)
	}
	r2, val, _ := opened(t, o, v.ID)
	if u.ID != v.ID || !r2.Supersedes(r) || val.Name != name || len(val.Ports) != 1 || !slices.Equal(val.TLSPin, pin) {
		t.Errorf("after the update: %+v", val)
	}
	for _, n := range []string{"P1", "printer-1"} {
		if !r2.HasKey(protocol.NewID(d, s.NameKey(n))) {
			t.Errorf("not to be found by %s", n)
		}
	}
	if err := o.RemoveDevice(t.Context(), admin, v.ID.String()); err != nil {
		t.Fatal(err)
	}
	r3, _, _ := opened(t, o, v.ID)
	if !r3.Tombstone || !r3.Supersedes(r2) || len(r3.Value) != 0 {
		t.Errorf("tombstone %+v", r3)
	}
	if _, err := o.Device(t.Context(), admin, v.ID.String()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a removed device: %v", err)
	}
	again, err := o.AddDevice(t.Context(), admin, spec)
	if err != nil || again.ID != v.ID {
		t.Fatalf("registered again: %v, %v", again.ID, err)
	}
	if r4, _, _ := opened(t, o, v.ID); !r4.Supersedes(r3) || r4.Tombstone {
		t.Error("the device does not come back past its tombstone")
	}
}

func TestDeviceIDSurvivesAChangeOfMAC(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	first, err := o.AddDevice(t.Context(), admin, printer("a"))
	if err != nil {
		t.Fatal(err)
	}
	mac := "02:00:00:00:00:99"
	if u, err := o.UpdateDevice(t.Context(), admin, "a@acme", DevicePatch{MAC: &mac}); err != nil || u.ID != first.ID {
		t.Fatalf("%v, %v", u.ID, err)
	}
	other := printer("a")
	other.Name = "b"
	second, err := o.AddDevice(t.Context(), admin, other) // the old network card, in another device
	if err != nil || second.ID == first.ID {
		t.Errorf("%v, %v", second.ID, err)
	}
}

func TestDeviceRules(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	addDomain(t, o, "other")
	n, _ := join(t, o, "acme", "desk")
	foreign, _ := join(t, o, "other", "desk")
	if _, err := o.AddDevice(t.Context(), admin, printer("taken")); err != nil {
		t.Fatal(err)
	}
	address := func(ip string) func(*DeviceSpec) { return func(s *DeviceSpec) { s.MAC, s.Address = "", ip } }
	for name, c := range map[string]struct {
		change func(*DeviceSpec)
		ok     bool
	}{
		"as it is":          {func(*DeviceSpec) {}, true},
		"fixed address":     {address("10.1.2.3"), true},
		"IPv6":              {address("2001:db8::5"), true},
		"private IPv6":      {address("fd00::5"), true},
		"of a node":         {func(s *DeviceSpec) { s.MAC, s.Node, s.Locations = "", n.ID.String(), nil }, true},
		"of a node by name": {func(s *DeviceSpec) { s.MAC, s.Node, s.Locations = "", "desk", nil }, true},
		"loopback":          {address("127.0.0.1"), false},
		"loopback range":    {address("127.9.9.9"), false},
		"IPv6 loopback":     {address("::1"), false},
		"mapped loopback":   {address("::ffff:127.0.0.1"), false},
		"old mapped":        {address("::127.0.0.1"), false},
		"NAT64 loopback":    {address("64:ff9b::7f00:1"), false},
		"6to4 loopback":     {address("2002:7f00:1::"), false},
		"unspecified":       {address("0.0.0.0"), false},
		"this network":      {address("0.1.2.3"), false},
		"IPv6 unspecified":  {address("::"), false},
		"link-local":        {address("169.254.169.254"), false},
		"IPv6 link-local":   {address("fe80::1"), false},
		"zone":              {address("fe80::1%eth0"), false},
		"multicast":         {address("224.0.0.251"), false},
		"IPv6 multicast":    {address("ff02::1"), false},
		"broadcast":         {address("255.255.255.255"), false},
		"host name":         {address("printer.local"), false},
		"octal":             {address("010.0.0.1"), false},
		"two targets":       {func(s *DeviceSpec) { s.Address = "10.0.0.1" }, false},
		"no target":         {func(s *DeviceSpec) { s.MAC = "" }, false},
		"multicast MAC":     {func(s *DeviceSpec) { s.MAC = "01:00:5e:00:00:01" }, false},
		"broadcast MAC":     {func(s *DeviceSpec) { s.MAC = "ff:ff:ff:ff:ff:ff" }, false},
		"zero MAC":          {func(s *DeviceSpec) { s.MAC = "00:00:00:00:00:00" }, false},
		"eight-byte MAC":    {func(s *DeviceSpec) { s.MAC = "02:00:00:00:00:00:00:01" }, false},
		"no port":           {func(s *DeviceSpec) { s.Ports = nil }, false},
		"port 0":            {func(s *DeviceSpec) { s.Ports = []string{"0"} }, false},
		"port 65536":        {func(s *DeviceSpec) { s.Ports = []string{"65536"} }, false},
		"port -1":           {func(s *DeviceSpec) { s.Ports = []string{"-1"} }, false},
		"port 0631":         {func(s *DeviceSpec) { s.Ports = []string{"0631"} }, false},
		"sctp":              {func(s *DeviceSpec) { s.Ports = []string{"80/sctp"} }, false},
		"port twice":        {func(s *DeviceSpec) { s.Ports = []string{"80", "80/tcp"} }, false},
		"17 ports":          {func(s *DeviceSpec) { s.Ports = strings.Fields(strings.Repeat("1 ", 17)) }, false},
		"no location":       {func(s *DeviceSpec) { s.Locations = nil }, false},
		"short location":    {func(s *DeviceSpec) { s.Locations = []string{"abcd"} }, false},
		"location twice":    {func(s *DeviceSpec) { s.Locations = []string{place, place} }, false},
		"location and at":   {func(s *DeviceSpec) { s.At = "desk" }, false},
		"pin too short":     {func(s *DeviceSpec) { s.TLSKey = "00" }, false},
		"pin with colons":   {func(s *DeviceSpec) { s.TLSKey = strings.Repeat("ab:", 31) + "ab" }, true},
		"bad group":         {func(s *DeviceSpec) { s.Allow = []string{"a b"} }, false},
		"bad port group":    {func(s *DeviceSpec) { s.Ports = []string{"80="} }, false},
		"bad name":          {func(s *DeviceSpec) { s.Name = "a@b" }, false},
		"no name":           {func(s *DeviceSpec) { s.Name = "" }, false},
		"taken name":        {func(s *DeviceSpec) { s.Name = "TAKEN" }, false},
		"taken MAC":         {func(s *DeviceSpec) { s.MAC = printer("taken").MAC }, false},
		"foreign node":      {func(s *DeviceSpec) { s.MAC, s.Node = "", foreign.ID.String() }, false},
		"unknown node":      {func(s *DeviceSpec) { s.MAC, s.Node = "", "nobody" }, false},
		"unknown domain":    {func(s *DeviceSpec) { s.Domain = "nobody" }, false},
		"no domain":         {func(s *DeviceSpec) { s.Domain = "" }, false},
		"too long a record": {func(s *DeviceSpec) {
			s.Ports = nil
			for i := range protocol.MaxPorts {
				s.Ports = append(s.Ports, fmt.Sprintf("%d=%s", i+1, strings.Repeat("g", protocol.MaxGroup)))
			}
			for i := range protocol.MaxLocations - 1 {
				s.Locations = append(s.Locations, strings.Repeat(fmt.Sprintf("%02x", i), 32))
			}
		}, false},
	} {
		s := printer("d-" + strings.Map(func(r rune) rune {
			if r == ' ' {
				return '-'
			}
			return r
		}, name))
		c.change(&s)
		_, err := o.AddDevice(t.Context(), admin, s)
		if (err == nil) != c.ok || err != nil && !aboutInput(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBulkIsAllOrNothing(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	specs := make([]DeviceSpec, 50)
	for i := range specs {
		specs[i] = printer(fmt.Sprintf("p%d", i))
	}
	bad := slices.Clone(specs)
	bad[7].Ports = []string{"0"}
	bad[9].Address = "127.0.0.1"
	_, err := o.AddDevices(t.Context(), admin, bad)
	var rows RowErrors
	if !errors.As(err, &rows) || len(rows) != 2 || rows[0].Row != 8 || rows[1].Row != 10 || !errors.Is(err, ErrInvalid) {
		t.Errorf("bad values: %v", err)
	}
	bad = slices.Clone(specs)
	bad[20].Name = "P3" // twice in one call
	bad[30].Domain = "nobody"
	if _, err = o.AddDevices(t.Context(), admin, bad); !errors.As(err, &rows) || len(rows) != 2 || rows[0].Row != 21 || rows[1].Row != 31 {
		t.Errorf("conflicts: %v", err)
	}
	list, _, err := o.Devices(t.Context(), admin, "", protocol.ID{}, 1000)
	if err != nil || len(list) != 0 || static(t, o, protocol.TableEndDevice, protocol.ID{}) != nil {
		t.Errorf("%d devices are left of refused calls, %v", len(list), err)
	}
	lines, _, err := o.AuditLog(t.Context(), admin, "", 0, 1000)
	if err != nil || len(lines) != 2 {
		t.Errorf("audit log %v, %v", lines, err)
	}
	out, err := o.AddDevices(t.Context(), admin, specs)
	if err != nil || len(out) != 50 || out[49].Name != "p49" {
		t.Fatalf("%d, %v", len(out), err)
	}
	page, next, err := o.Devices(t.Context(), admin, "acme", protocol.ID{}, 30)
	if err != nil || len(page) != 30 || next.IsZero() {
		t.Fatalf("page of %d, %v", len(page), err)
	}
	if page, next, err = o.Devices(t.Context(), admin, "acme", next, 30); err != nil || len(page) != 20 || !next.IsZero() {
		t.Errorf("second page of %d, %v", len(page), err)
	}
}

func TestScope(t *testing.T) {
	o, _ := newOperator(t)
	d := addDomain(t, o, "acme")
	addDomain(t, o, "other")
	foreign := printer("f")
	foreign.Domain = "other"
	fd, err := o.AddDevice(t.Context(), admin, foreign)
	if err != nil {
		t.Fatal(err)
	}
	fn, _ := join(t, o, "other", "n")
	ft, err := o.CreateToken(t.Context(), admin, TokenSpec{Domain: "other"})
	if err != nil {
		t.Fatal(err)
	}
	by := Actor{Name: "scoped", Domain: d}
	own := printer("own")
	own.Domain = "" // the scope's own
	if _, err := o.AddDevice(t.Context(), by, own); err != nil {
		t.Errorf("own device: %v", err)
	}
	name, ctx := "x", t.Context()
	for what, err := range map[string]error{
		"add a device":    second(o.AddDevice(ctx, by, foreign)),
		"see a device":    second(o.Device(ctx, by, fd.ID.String())),
		"see by name":     second(o.Device(ctx, by, "f@other")),
		"change a device": second(o.UpdateDevice(ctx, by, fd.ID.String(), DevicePatch{Name: &name})),
		"remove a device": o.RemoveDevice(ctx, by, fd.ID.String()),
		"list devices":    third(o.Devices(ctx, by, "other", protocol.ID{}, 10)),
		"list nodes":      third(o.Nodes(ctx, by, "other", protocol.ID{}, 10)),
		"revoke a node":   second(o.RevokeNode(ctx, by, fn.ID.String())),
		"make a token":    second(o.CreateToken(ctx, by, TokenSpec{Domain: "other"})),
		"delete a token":  o.DeleteToken(ctx, by, ft.ID),
		"list tokens":     second(o.Tokens(ctx, by, "other")),
		"push":            second(o.Push(ctx, by, "other")),
		"see the log":     third(o.AuditLog(ctx, by, "other", 0, 10)),
		"add a domain":    second(o.AddDomain(ctx, by, "third")),
		"ban a domain":    second(o.BanDomain(ctx, by, "acme")),
		"make a key":      second(o.CreateAPIKey(ctx, by, "")),
		"list keys":       second(o.APIKeys(ctx, by)),
		"set the policy":  o.SetPolicy(ctx, by, PolicyOwn),
		"bar a node":      o.BarSuperNode(ctx, by, fn.ID.String()),
	} {
		if !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrForbidden) && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ds, err := o.Domains(ctx, by)
	if err != nil || len(ds) != 1 || ds[0].Name != "acme" {
		t.Errorf("domains %v, %v", ds, err)
	}
	lines, _, err := o.AuditLog(ctx, by, "", 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if l.Domain != "acme" {
			t.Errorf("sees %+v", l)
		}
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T, U any](_ T, _ U, err error) error { return err }

func TestAtTakesTheNodesLocations(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	n, _ := join(t, o, "acme", "desk")
	s := printer("p")
	s.Locations, s.At = nil, "desk"
	if _, err := o.AddDevice(t.Context(), admin, s); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while not running: %v", err)
	}
	mesh := newMesh()
	o.attach(mesh)
	defer o.attach(nil)
	if _, err := o.AddDevice(t.Context(), admin, s); !errors.Is(err, ErrInvalid) {
		t.Errorf("nothing announced: %v", err)
	}
	mesh.places[n.ID] = []protocol.Hash{{1}, {2}}
	v, err := o.AddDevice(t.Context(), admin, s)
	if err != nil || len(v.Locations) != 2 || v.Locations[0] != hex.EncodeToString(append([]byte{1}, make([]byte, 31)...)) {
		t.Errorf("%v, %v", v.Locations, err)
	}
	mesh.places[n.ID] = []protocol.Hash{{3}}
	if v, err = o.UpdateDevice(t.Context(), admin, "p@acme", DevicePatch{At: &s.At}); err != nil || len(v.Locations) != 1 {
		t.Errorf("%v, %v", v.Locations, err)
	}
}
