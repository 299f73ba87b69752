package nodetest

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"

	"culvert/protocol"
)

// BenchmarkTakeOver is how long an empty super-node takes until it answers for 100,000 records, by a stream and by datagrams
// alone: go test ./node/nodetest -run - -bench TakeOver -benchtime 1x.
func BenchmarkTakeOver(b *testing.B) {
	const records = 100_000
	m := newMesh(b, "acme")
	fillDevices(b, m, records)
	for name, dial := range map[string]func(context.Context, string, string) (net.Conn, error){
		"stream":    nil,
		"datagrams": func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no streams here") },
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				a := m.enrolled(name, "acme")
				a.set.Super, a.set.Tunnel = true, false
				a.net.Dial = dial
				began := time.Now()
				a.start()
				look := time.NewTicker(20 * time.Millisecond)
				for s, err := a.api.Status(b.Context()); err != nil || !isSuper(s); s, err = a.api.Status(b.Context()) {
					<-look.C
				}
				look.Stop()
				b.ReportMetric(float64(records)/time.Since(began).Seconds(), "records/s")
				a.stop()
			}
		})
	}
}

// fillDevices gives the operator's node that many records which the operator has signed.
func fillDevices(b *testing.B, m *mesh, n int) {
	keys, _, _ := m.op.Identity()
	now := time.Now()
	noError(b, m.hands.Load().Fill(b.Context(), func(yield func([]byte, error) bool) {
		for i := range n {
			h := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
			raw, err := protocol.SignRecord(&protocol.Record{
				Table: protocol.TableEndDevice, Owner: protocol.NewID(protocol.Domain(i*40_000), h), Epoch: 1, Sequence: 1,
				Signer: protocol.NodeID(protocol.OperatorDomain, keys.Signing.Public()), Issued: now, Expires: now.Add(24 * time.Hour),
				Lookups: []protocol.Hash{sha256.Sum256(h[:])}, Value: make([]byte, 120),
			}, keys.Signing)
			if !yield(raw, err) {
				return
			}
		}
	}))
}
