package messages

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"culvert/bench/measure"
	"culvert/bench/report"
	"culvert/bench/world"
	"culvert/protocol"
)

// perLocation is how many tunnel-nodes are found at one location.
const perLocation = 2

// putWindow is how many Puts are under way: those that come while one commit runs make the next one.
const putWindow = 96

// Names of the cells of records; a %d is filled in with the number of records.
const (
	selectEchoed  = "plain UDP echo with a SELECT, %d rows"
	lookupNode    = "culvert GetNode, %d records"
	lookupTunnels = "culvert GetTunnelNodes, %d records"
	missNode      = "culvert GetNode, all misses"
	missTunnels   = "culvert GetTunnelNodes, all misses"
	putInfo       = "culvert Put, acknowledged"
	putLate       = "culvert Put, 99 of 100 within"
)

// records makes the load that asks for records, and stores them.
func (b *Bench) records(ctx context.Context) error {
	var at recordsAt
	if err := b.child(ctx, "messages-records", recordsArg{Records: b.size.Records, Dir: b.dir}, &at); err != nil {
		return err
	}
	ids, err := readIDs(filepath.Join(b.dir, idsFile))
	if err != nil {
		return err
	}
	var places []protocol.Hash
	for i := range len(ids) / perLocation {
		places = append(places, world.Location(i))
	}
	ids, places = strided(ids), strided(places)
	b.askers[selectEchoed] = &plainAsker{to: at.Select}
	warm, cold := b.peer, b.peer
	warm.Addr, cold.Addr = at.Warm, at.Cold
	for i, x := range []struct {
		name string
		peer protocol.Peer
		q    question
	}{
		{lookupNode, warm, getNode{ids}}, {lookupTunnels, warm, getTunnelNodes{places}},
		{missNode, cold, getNode{ids}}, {missTunnels, cold, getTunnelNodes{places}},
	} {
		if _, err := b.crowd(x.name, uint64(10+i), x.peer, x.q); err != nil {
			return err
		}
	}
	b.puts = &puts{w: b.w}
	b.putTimes = newTimed(b.puts)
	if b.puts.members, err = b.crowd(putInfo, 20, warm, b.putTimes); err != nil {
		return err
	}
	b.putter = b.askers[putInfo].(*nodeAsker)
	return b.puts.sign(0, b.size.Peers+putWindow) // to be warm
}

// crowd makes the load of a cell: as many peers as in the other cells with many, each with a session.
func (b *Bench) crowd(name string, seed uint64, peer protocol.Peer, q question) ([]*world.Member, error) {
	var members []*world.Member
	var ids []protocol.ID
	for i := range b.size.Peers {
		m, err := b.w.Member(fmt.Sprint("crowd ", seed), i)
		if err != nil {
			return nil, err
		}
		members, ids = append(members, m), append(ids, m.Cert.ID)
	}
	e, err := b.w.Endpoint(true, seed, members)
	if err != nil {
		return nil, err
	}
	b.askers[name] = newNodeAsker(e, ids, peer, q)
	return members, nil
}

// RecordsGroup is the table of lookups and stores.
func (b *Bench) RecordsGroup() measure.Group {
	g := measure.Group{
		Title: "records",
		Notes: "SQLite-backed tables of Node and NodeInfo, so many records each; 64 lookups under way, in sessions of as\n" +
			"many peers as above; misses: a cache of 1 MiB; echoes as above, the one with a SELECT with sockets\n" +
			"of its own. Put: NodeInfos signed before, one under way of each owner and 96 in all,\neach verified and acknowledged after a commit with synchronous=FULL",
	}
	for _, c := range [][2]string{
		{sealedMany, ""}, {sealedOurs, sealedMany}, {lookupNode, sealedMany}, {lookupTunnels, sealedMany}, {selectEchoed, ""}, {missNode, selectEchoed}, {missTunnels, selectEchoed},
	} {
		g.Cells = append(g.Cells, measure.Cell{Name: b.label(c[0]), Unit: "/s", Reference: b.label(c[1]), Run: b.driven(c[0], Window)})
	}
	put := func(ctx context.Context, d time.Duration) (measure.Sample, error) {
		if err := b.puts.sign(b.putter.asked, int(putMost*d.Seconds())+putWindow); err != nil {
			return measure.Sample{}, err
		}
		b.putTimes.reset()
		return b.driven(putInfo, min(putWindow, b.size.Peers))(ctx, d) // an owner waits for one before the next
	}
	g.Cells = append(g.Cells, measure.Cell{Name: putInfo, Unit: "/s", Run: put}, measure.Cell{Name: putLate, Unit: "ms", Less: true,
		Run: func(ctx context.Context, d time.Duration) (measure.Sample, error) {
			if len(b.putTimes.took) == 0 { // else of the run before
				if _, err := put(ctx, d); err != nil {
					return measure.Sample{}, err
				}
			}
			s := measure.Sample{Value: b.putTimes.within(99) / 1000}
			b.putTimes.reset()
			return s, nil
		}})
	return g
}

// RecordsClaims are what the cells of records shall show.
func (b *Bench) RecordsClaims(table string) []report.Claim {
	beside := func(text, row, reference string, want float64) report.Claim {
		return report.Claim{Text: text, In: table, Row: b.label(row), To: []string{b.label(reference)}, Want: want}
	}
	return []report.Claim{
		beside("GetNode, warm", lookupNode, sealedMany, 0.8),
		beside("GetTunnelNodes, warm", lookupTunnels, sealedMany, 0.8),
		beside("GetNode, every one a miss", missNode, selectEchoed, 1),
		beside("GetTunnelNodes, every one a miss", missTunnels, selectEchoed, 1),
		{Text: "Put, acknowledged", In: table, Row: putInfo, Want: 15_000},
		{Text: "Put, 99 of 100 within ms", In: table, Row: putLate, Want: 20, AtMost: true},
	}
}
