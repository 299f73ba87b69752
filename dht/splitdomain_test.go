package dht_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"culvert/dht"
	"culvert/partition"
	"culvert/protocol"
)

// One domain is split between two ranges: a node's own key lies in one, its location in the other. The members of the second
// prove what is passed on to them and what they repair, and a reader proves what they serve.
func TestOneDomainInTwoRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 6)
		f.began = time.Now()
		s := f.order
		const cut = 7<<32 | 1<<31
		low, high := partition.Range{To: cut - 1}, partition.Range{From: cut, To: 1<<64 - 1}
		m := f.layout(1, place{s[0], low, none}, place{s[1], low, none}, place{s[2], low, none},
			place{s[3], high, none}, place{s[4], high, none}, place{s[5], high, none})
		f.install(m, s...)
		f.tick()
		n := f.world.Node(7, "n0")
		for i := 1; !low.ContainsKey(n.ID); i++ {
			n = f.world.Node(7, fmt.Sprint("n", i))
		}
		lookup := protocol.Hash{0xff, 1}
		at := protocol.NewID(7, lookup)
		if !high.ContainsKey(at) {
			t.Fatal("the location is not where it should be")
		}
		first := f.world.Info(n, 1, start, lookup)
		if st := f.putAt(n, s[3].member, first, at); st != 0 {
			t.Fatalf("status %d", st)
		}
		for i, k := range s[3:] {
			if !f.has(k, first) {
				t.Errorf("member %d cannot prove what was passed on", i)
			}
		}
		// Certificates are lost on the way too, and repair brings both.
		other := f.world.Node(7, "o0")
		for i := 1; !low.ContainsKey(other.ID); i++ {
			other = f.world.Node(7, fmt.Sprint("o", i))
		}
		s[3].forwards(false)
		second := f.world.Info(other, 1, start, lookup)
		if st := f.putAt(other, s[3].member, second, at); st != 0 || f.has(s[4], second) {
			t.Fatalf("status %d", st)
		}
		f.pass(time.Minute)
		if !f.has(s[4], second) || !f.has(s[5], second) {
			t.Error("repair does not bring a record whose certificate lies in another range")
		}
		reader := f.world.Node(7, "reader")
		c := dht.NewClient(dht.ClientConfig{
			Caller: caller{f.fabric, reader}, Self: reader.ID, Trust: f.world.Trust, Now: f.clock, Seed: [2]uint64{1, rand.Uint64()},
		})
		defer c.Close()
		c.SetMap(m)
		recs, err := c.Lookup(t.Context(), dht.Target{Kind: dht.FindTunnelNodes, Key: at})
		if err != nil || len(recs) != 2 {
			t.Errorf("a reader proves %d of 2: %v", len(recs), err)
		}
		f.install(f.layout(2, place{s[0], low, none}, place{s[1], low, none}, place{s[2], low, none},
			place{s[3], high, none}, place{s[4], high, none}, place{s[5], high, none}), s...)
		f.pass(6 * time.Minute) // what was swept by then does not miss a certificate
		if !f.has(s[4], second) || !f.has(s[4], other.Record) {
			t.Error("a certificate was dropped that a record rests on")
		}
	})
}
