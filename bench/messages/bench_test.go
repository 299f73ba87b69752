package messages

import (
	"net/netip"
	"testing"
	"time"

	"culvert/bench/world"
	"culvert/protocol"
)

// BenchmarkRoundTrips runs server and load in this process, so that one profile shows both sides.
func BenchmarkRoundTrips(b *testing.B) {
	b.Run("bare", func(b *testing.B) {
		mine, err := sealedPairs(Full.Peers)
		if err != nil {
			b.Fatal(err)
		}
		theirs, err := sealedPairs(Full.Peers)
		if err != nil {
			b.Fatal(err)
		}
		roundTrips(b, false, func(c conn) error { return serveEcho(c, (&sealedEcho{pairs: theirs}).respond) },
			func(at netip.AddrPort) asker { return &sealedAsker{to: at, pairs: mine} })
	})
	b.Run("ping", func(b *testing.B) { pings(b, true, false, Full.Peers) })
	b.Run("deep", func(b *testing.B) { pings(b, true, true, 1) })
	b.Run("signed", func(b *testing.B) { pings(b, false, false, 1) })
}

func pings(b *testing.B, sessions, deep bool, peers int) {
	w, err := world.New(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	member := func(kind string, n int) *world.Member {
		m, err := w.Member(kind, n)
		if err != nil {
			b.Fatal(err)
		}
		return m
	}
	us := member("server", 0)
	s := new(server)
	if s.e, err = w.Endpoint(true, 1, []*world.Member{us}); err != nil {
		b.Fatal(err)
	}
	s.handlers[protocol.CmdPing] = pong
	var members []*world.Member
	var ids []protocol.ID
	for i := range peers {
		m := member("peer", i)
		members, ids = append(members, m), append(ids, m.Cert.ID)
	}
	e, err := w.Endpoint(sessions, 2, members)
	if err != nil {
		b.Fatal(err)
	}
	roundTrips(b, deep, s.loop, func(at netip.AddrPort) asker {
		p := us.Peer()
		p.Addr = at
		return newNodeAsker(e, ids, p, ping{})
	})
}

func roundTrips(b *testing.B, deep bool, loop func(conn) error, load func(at netip.AddrPort) asker) {
	var s serving
	w := single
	if deep {
		w = segments
	}
	at, err := s.add(w, loop)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := w.listen()
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = conn.Close()
		if err := s.close(); err != nil {
			b.Error(err)
		}
	}()
	a, window := load(at), Window
	if deep {
		window = Deep
	}
	if err := warm(b.Context(), conn, a, Full.Peers); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	l := newLoad(conn, a, window)
	for now := time.Now(); l.done < b.N; now = time.Now() {
		if err := l.step(b.Context(), now, window, silence); err != nil {
			b.Fatal(err)
		}
	}
	a.abandon()
}
