package nodetest

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"culvert/operator"
	"culvert/protocol"
)

// A super-node comes back with a damaged database: it serves nothing that was not signed, holds everything again after its
// repair, from its fellow members alone, and its file is whole.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	const records = 60
	m := newMesh(t, "acme")
	supers := []*agent{m.super("super-0", "acme"), m.super("super-1", "acme"), m.super("super-2", "acme")}
	hurt := supers[0]
	var peers []protocol.Peer
	for _, s := range supers {
		peers = append(peers, s.peer())
	}
	for i := range records {
		must[operator.DeviceView](t)(m.op.AddDevice(t.Context(), admin, operator.DeviceSpec{
			Name: fmt.Sprint("device-", i), Domain: "acme", Node: hurt.id("").String(), Ports: []string{"9100"}}))
	}
	h := &held{t: t, asker: m.probe("acme", true), at: peers[0], infos: make(map[protocol.ID][]byte)}
	token := m.token("acme", records)
	for range records {
		p := m.probeBy(token, false)
		raw := must[[]byte](t)(p.info(1, protocol.NodeInfoValue{Name: "writer"}))
		for _, at := range peers {
			eventually(t, "a record is stored", func() bool {
				st, err := p.put(t.Context(), at, p.id, raw, 2*time.Second)
				return err == nil && st.Status == protocol.StatusOK
			})
		}
		h.infos[p.id] = raw
		p.close()
	}
	eventually(t, "every device is at every super-node", func() bool {
		for _, at := range peers {
			if n := h.devices(at); n != records {
				return false
			}
		}
		return true
	})
	m.stop() // nobody but the two others can give anything back

	r := rand.New(rand.NewPCG(1, 1))
	everyPage := func(most int) func(db []byte) []byte {
		return func(db []byte) []byte {
			for at := 4096; at < len(db); at += 4096 {
				db[at+r.IntN(most)] ^= 1 << r.IntN(8)
			}
			return db
		}
	}
	const maybe, surely, never = 0, 1, -1
	for _, c := range []struct {
		name   string
		damage func(db []byte) []byte
		moved  int // whether the file must be set aside
	}{
		{"one bit in every page", everyPage(4096), maybe}, // it may be in nothing but records
		{"one bit in the head of every page", everyPage(1), surely},
		{"the values of some records", func(db []byte) []byte {
			hit := 0
			for _, raw := range h.infos {
				if at := bytes.Index(db, raw[len(raw)-64:]); at >= 0 && hit < 20 {
					db[at+r.IntN(64)] ^= 1 << r.IntN(8)
					hit++
				}
			}
			if hit < 20 {
				t.Errorf("only %d records found in the file", hit)
			}
			return db
		}, never},
		{"no database at all", func(db []byte) []byte { return bytes.Repeat([]byte("garbage "), 1000) }, surely},
		{"an empty file", func([]byte) []byte { return nil }, never},
	} {
		hurt.stop()
		path := filepath.Join(hurt.dir, "node.db")
		db := must[[]byte](t)(os.ReadFile(path))
		noError(t, os.WriteFile(path, c.damage(db), 0o600))
		before := len(must[[]string](t)(filepath.Glob(path + ".corrupt-*")))
		began := time.Now()
		hurt.start()
		eventually(t, c.name+": everything is back", h.complete)
		t.Logf("%s: %d records and %d devices back %s after its start; asked %d times meanwhile", c.name, records, records, time.Since(began).Round(time.Millisecond), h.asked)
		if moved := len(must[[]string](t)(filepath.Glob(path+".corrupt-*"))) > before; moved && c.moved == never || !moved && c.moved == surely {
			t.Errorf("%s: the old file was set aside: %v", c.name, moved)
		}
	}
	hurt.stop()
	whole(t, filepath.Join(hurt.dir, "node.db"))
}

// held is what a super-node must hold.
type held struct {
	t     *testing.T
	asker *probe
	at    protocol.Peer
	infos map[protocol.ID][]byte
	asked int
}

// complete asks for everything and fails on an answer that nobody signed.
func (h *held) complete() bool {
	all := true
	for id, raw := range h.infos {
		h.asked++
		v, err := h.asker.call(context.Background(), h.at, protocol.GetNodeInfo{ID: id}, 2*time.Second)
		if err != nil || v.Command != protocol.CmdNodeInfo {
			return false
		}
		l := must[protocol.RecordList](h.t)(protocol.ParseRecordList(v.Payload))
		for _, got := range l.Records {
			if !bytes.Equal(got, raw) {
				h.t.Fatalf("a bad record is served for %s", id.Short())
			}
		}
		all = all && len(l.Records) == 1
	}
	return all && h.devices(h.at) == len(h.infos)
}

// devices counts the devices that are listed, each with a sound signature.
func (h *held) devices(at protocol.Peer) (n int) {
	q := protocol.GetEndDevices{Key: protocol.NewID(h.asker.id.Domain(), protocol.Hash{})}
	for {
		v, err := h.asker.call(context.Background(), at, q, 2*time.Second)
		if err != nil || v.Command != protocol.CmdEndDevices {
			return 0
		}
		l := must[protocol.RecordList](h.t)(protocol.ParseRecordList(v.Payload))
		for _, raw := range l.Records {
			r := must[*protocol.Record](h.t)(protocol.ParseRecord(raw))
			noError(h.t, h.asker.trust.CheckStatic(r, time.Now()))
			n++
		}
		if q.After = l.Next; q.After.IsZero() {
			return n
		}
	}
}
