package nodetest

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"culvert/dht"
	"culvert/protocol"
	"culvert/protocol/key"
	"culvert/tunnel/link"
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

// An empty super-node takes over by a stream, and who is in no map is given nothing by one.
func TestTakeOverByStream(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	fillDevices(t, m, 1500)
	a := m.enrolled("super", "acme")
	a.set.Super, a.set.Tunnel = true, false
	at := fmt.Sprintf("127.0.0.1:%d", m.port)
	var dialled atomic.Int32
	a.net.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == at {
			dialled.Add(1)
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	a.start()
	a.serving()
	if dialled.Load() == 0 {
		t.Error("no stream to the operator was opened")
	}
	stranger := must[*key.Pair](t)(key.Generate(rand.Reader))
	leaf := must[tls.Certificate](t)(link.Certificate(stranger.Signing))
	c := must[*tls.Conn](t)(tls.Dial("tcp", at, &tls.Config{
		Certificates: []tls.Certificate{leaf}, NextProtos: []string{"culvert/snapshot/1"}, InsecureSkipVerify: true,
	}))
	defer c.Close()
	q := protocol.Repair{Table: protocol.TableEndDevice, To: 1<<64 - 1}
	if err := dht.FetchSnapshot(c, bufio.NewReader(c), q, 10_000, func([][]byte) error { return nil }); err == nil {
		t.Error("a stranger was given records")
	}
}

// fillDevices gives the operator's node that many records which the operator has signed.
func fillDevices(b testing.TB, m *mesh, n int) {
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
