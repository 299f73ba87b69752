//go:build linux && netlab

package netlab

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/lab"
	"culvert/bench/netlab/leak"
	"culvert/bench/netlab/mesh"
	"culvert/protocol"
)

// The message port's datagrams begin: type, version, command, flags.
const (
	typeSigned   = 4
	typeSealed   = 5
	flagReadable = 2
	header       = 4
)

// relayedBytes go to the device and come back.
const relayedBytes = 4 << 20

// What a super-node relays, receives and keeps says nothing about payload,
// devices and agents, whether nodes talk in sessions or not.
func TestSuperNodesReadNothing(t *testing.T) {
	t.Run("sessions on", func(t *testing.T) { superNodesReadNothing(t, true) })
	t.Run("sessions off", func(t *testing.T) { superNodesReadNothing(t, false) })
}

func superNodesReadNothing(t *testing.T, sessions bool) {
	conf := ""
	if !sessions {
		conf = "sessions = false\n"
	}
	w := newWorld(t, conf)
	ctx := w.within(t, 2*settle)
	var captures []*lab.Capture
	for _, h := range []*lab.Host{w.supers[0].Host(), w.supers[1].Host(), w.operator.Host()} {
		c, err := h.Capture("eth0", func(p lab.Packet) bool { return p.UDP(mesh.MessagePort) || p.TCP() })
		if err != nil {
			t.Fatal(err)
		}
		captures = append(captures, c)
	}
	serve(t, device.ServeEcho, w.printer, device.JetDirectPort)
	w.start(t)
	if err := w.homeDesk.Lookup(ctx, "printer"); err != nil {
		t.Error(err)
	}
	tunnel, err := w.homeDesk.AwaitOpen(ctx, "printer", device.JetDirectPort, "--route", "relayed")
	if err != nil {
		t.Fatal(err)
	}
	secret := payload(t, 1, relayedBytes)
	conn, err := tunnel.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn.Write(secret)
		conn.CloseWrite()
	}()
	back, err := io.ReadAll(conn)
	if err != nil || string(back) != string(secret) {
		t.Fatalf("%d of %d bytes came back: %v", len(back), len(secret), err)
	}
	conn.Close()

	var packets []lab.Packet
	for _, c := range captures {
		got, err := c.Stop()
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, got...)
	}
	secrets := w.secrets(t)
	t.Run("the relay sees no piece of the payload", func(t *testing.T) { w.relaySeesNothing(t, packets, secret, secrets) })
	t.Run("the message port", func(t *testing.T) { w.messagePort(t, packets, secrets, sessions) })
	t.Run("the super-nodes' files", func(t *testing.T) { w.files(t, secrets) })
}

func (w *world) relaySeesNothing(t *testing.T, packets []lab.Packet, secret []byte, secrets []leak.Secret) {
	pieces := leak.NewPieces(secret)
	servers := []netip.Addr{w.supers[0].Host().Addr(), w.supers[1].Host().Addr(), w.operator.Host().Addr()}
	seen := make(map[string]bool) // between two servers it was captured twice
	var hits []leak.Hit
	relayed := 0
	for _, p := range packets {
		if !p.TCP() {
			continue
		}
		relayed += len(p.Payload)
		// A relay passes on what it is sent, byte for byte: what is there by chance as it comes in is there again as it goes out.
		again := !slices.Contains(servers, p.To.Addr()) || seen[string(p.Payload)]
		seen[string(p.Payload)] = true
		for _, hit := range leak.Scan(p.Payload, secrets) {
			if !hit.Chance || !again {
				hits = append(hits, hit)
			}
		}
		if at, found := pieces.Find(p.Payload); found {
			t.Fatalf("a segment from %s to %s holds a piece of the payload at byte %d", p.From, p.To, at)
		}
	}
	for _, hit := range leak.Certain(hits) {
		t.Errorf("readable at the relay: %s", hit)
	}
	// In and out, there and back.
	if relayed < 4*len(secret) {
		t.Errorf("only %d bytes passed the super-nodes: the tunnel was not relayed there", relayed)
	}
}

// secrets are the customer's addresses, MACs and locations, and names of devices.
func (w *world) secrets(t *testing.T) []leak.Secret {
	t.Helper()
	secrets := []leak.Secret{
		leak.Address("public address of the branch", w.branch.WAN),
		leak.Address("public address of the home", w.home.WAN),
		leak.Text("name of a device", "annex-printer"),
		leak.Text("name of a device", "plotter"),
	}
	for _, s := range []*lab.Site{w.branch, w.home, w.office} {
		secrets = append(secrets, leak.MAC("router MAC of the "+s.Name, s.RouterMAC(0)))
	}
	hosts := []*lab.Host{w.printer, w.annexPrinter, w.plotter}
	for _, a := range w.agents() {
		hosts = append(hosts, a.Host())
		location, err := a.Location(w.within(t, settle))
		if err != nil {
			t.Fatal(err)
		}
		id, err := location.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, leak.Bytes("location of "+a.Host().Name(), id))
	}
	for _, h := range hosts {
		secrets = append(secrets, leak.Address("address of "+h.Name(), h.Addr()), leak.MAC("MAC of "+h.Name(), h.MAC()))
	}
	return secrets
}

func (w *world) messagePort(t *testing.T, packets []lab.Packet, secrets []leak.Secret, sessions bool) {
	seen := make(map[string]bool) // between two servers it was captured twice
	from := make(map[netip.Addr]int)
	types := make(map[byte]int)
	var hits []leak.Hit
	for _, p := range packets {
		if !p.UDP(mesh.MessagePort) || seen[string(p.Payload)] {
			continue
		}
		seen[string(p.Payload)] = true
		if len(p.Payload) < header {
			t.Errorf("a datagram of %d bytes from %s to %s", len(p.Payload), p.From, p.To)
			continue
		}
		from[p.From.Addr()]++
		types[p.Payload[0]]++
		if command := protocol.Command(p.Payload[2]); p.Payload[0] == typeSigned {
			if readable := p.Payload[3]&flagReadable != 0; readable && !command.Readable() {
				t.Errorf("a readable %s from %s to %s", command, p.From, p.To)
			}
		}
		hits = append(hits, leak.Scan(p.Payload, secrets)...)
	}
	for _, hit := range leak.Certain(hits) {
		t.Errorf("readable on the message port: %s", hit)
	}
	t.Logf("datagrams by type %v, by sender %v", types, from)
	for _, a := range []netip.Addr{w.branch.WAN, w.home.WAN, w.officeDesk.Host().Addr()} {
		if from[a] == 0 {
			t.Errorf("no datagram of %s was captured", a)
		}
	}
	if types[typeSigned] == 0 || sessions != (types[typeSealed] > 0) {
		t.Errorf("sessions %v: %d signed and %d sealed datagrams", sessions, types[typeSigned], types[typeSealed])
	}
}

// files reads everything that super-nodes keep, databases and their logs of
// changes included.
func (w *world) files(t *testing.T, secrets []leak.Secret) {
	var hits []leak.Hit
	for _, super := range w.supers {
		databases := 0
		err := filepath.WalkDir(super.Dir(), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if strings.HasPrefix(d.Name(), "node.db") {
				databases++
			}
			for _, hit := range leak.Scan(data, secrets) {
				hit.Secret += " in " + d.Name()
				hits = append(hits, hit)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		if databases == 0 {
			t.Errorf("%s has no node.db", super.Host().Name())
		}
	}
	for _, hit := range leak.Certain(hits) {
		t.Errorf("a super-node keeps %s", hit)
	}
}
