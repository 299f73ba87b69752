package dht_test

import (
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/dht/storetest"
	"culvert/protocol"
)

// A reader that has not heard of an operator meets it where its signature turns up, in the first look-up; one whom the root
// does not vouch for it never meets.
func TestReaderMeetsANewOperator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFabric(t)
		f.began = time.Now()
		ms := f.mesh(3, dht.Config{})
		w := f.world
		reader := protocol.NewTrust(w.Trust.Root())
		if err := reader.AddOperator(w.OpRecord, w.Root.Signing.Public(), storetest.Start); err != nil {
			t.Fatal(err)
		}
		next := storetest.Pair(t, "next")
		id := protocol.NodeID(protocol.OperatorDomain, next.Signing.Public())
		value := protocol.OperatorNodeValue{Signing: next.Signing.Public(), Sealing: next.Sealing.Public()}
		admitted := w.Sign(w.Root.Signing, protocol.Record{Table: protocol.TableOperatorNode, Owner: id, Signer: w.Trust.RootID(), Epoch: 2, Sequence: 1,
			Issued: storetest.Start, Expires: storetest.Start.Add(time.Hour)}, value)
		device := protocol.Record{Table: protocol.TableEndDevice, Owner: protocol.NewID(7, storetest.Key("printer")), Signer: id, Epoch: 2, Sequence: 1,
			Issued: storetest.Start, Expires: storetest.Start.Add(time.Hour)}
		raw := w.Sign(next.Signing, device, []byte("printer"))
		a := w.Node(7, "a")
		for _, known := range []bool{false, true} {
			if known {
				if err := w.Trust.AddOperator(admitted, w.Root.Signing.Public(), storetest.Start); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			for _, m := range ms {
				m.hook = func(v *protocol.Verified, out []protocol.Out) []protocol.Out {
					if v.Command == protocol.CmdGetEndDevices {
						return protocol.Reply(protocol.EndDevices{RecordList: protocol.RecordList{Records: [][]byte{raw}}})
					}
					return out
				}
			}
			c := f.clientWith(a, ms[0].server.Map(), reader)
			recs, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindDevices, Key: device.Owner})
			if (err == nil && len(recs) == 1) != known {
				t.Errorf("the root vouches for it: %v; found %d, %v", known, len(recs), err)
			}
			c.Close()
		}
		if _, ok := reader.Operator(id); !ok {
			t.Error("it has not been met")
		}
	})
}
