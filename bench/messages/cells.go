package messages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"culvert/bench/measure"
	"culvert/bench/proc"
	"culvert/bench/world"
	"culvert/protocol"
)

// Window is how many requests are under way, Deep in the cells in which one peer asks as fast as it can.
const (
	Window = 64
	Deep   = 1024
)

// Size says how large the world is that is measured.
type Size struct {
	Peers   int // in the cells with many
	Records int // of each table; 0 for no table
}

// Full is the size of a real run.
var Full = Size{Peers: 1000, Records: 100_000}

// Parts are the processes that cells talk to.
func Parts() map[string]proc.Part {
	return map[string]proc.Part{"messages-bare": Bare, "messages-node": Node, "messages-records": Records, "messages-growing": Growing}
}

// Bench is the servers and the load's side of all cells.
type Bench struct {
	size     Size
	dir      string
	children []*proc.Child
	w        *world.World
	peer     protocol.Peer // with segments
	many     protocol.Peer // without
	bare     bareAt
	askers   map[string]asker
	puts     *puts
	putter   *nodeAsker
	putTimes *timed
	conns    map[string]conn // one for each asker: an answer that comes late is no other's
}

// Start starts the servers and opens the sessions.
func Start(ctx context.Context, size Size) (*Bench, error) {
	b := &Bench{size: size, askers: make(map[string]asker), conns: make(map[string]conn)}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Bench) start(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "culvert-bench-"); err != nil {
		return err
	}
	if err := b.child(ctx, "messages-bare", b.size.Peers, &b.bare); err != nil {
		return err
	}
	var at nodeAt
	if err := b.child(ctx, "messages-node", nil, &at); err != nil {
		return err
	}
	if b.w, err = world.New(time.Now()); err != nil {
		return err
	}
	server, err := b.w.Member("server", 0)
	if err != nil {
		return err
	}
	b.peer = server.Peer()
	b.many = b.peer
	b.peer.Addr, b.many.Addr = at.One, at.Many
	if err := b.references(); err != nil {
		return err
	}
	if err := b.nodes(); err != nil {
		return err
	}
	if b.size.Records > 0 {
		if err := b.records(ctx); err != nil {
			return err
		}
	}
	for name, a := range b.askers {
		if b.conns[name], err = socketsOf(name).listen(); err != nil {
			delete(b.conns, name)
			return err
		}
		n := max(Window, b.size.Peers)
		if name == putInfo {
			n = b.size.Peers // one each
		}
		if err := warm(ctx, b.conns[name], a, n); err != nil {
			return fmt.Errorf("%s: %w", b.label(name), err)
		}
	}
	return nil
}

func (b *Bench) child(ctx context.Context, part string, arg, at any) error {
	c, err := proc.Start(ctx, part, arg, at)
	if err == nil {
		b.children = append(b.children, c)
	}
	return err
}

// references makes the load of the bare echoes.
func (b *Bench) references() error {
	pairs, err := sealedPairs(b.size.Peers)
	if err != nil {
		return err
	}
	ours, err := sealedPairs(b.size.Peers)
	if err != nil {
		return err
	}
	side, _, err := publicSides()
	if err != nil {
		return err
	}
	b.askers[plainEcho] = &plainAsker{to: b.bare.Plain}
	one, err := sealedPairs(1)
	if err != nil {
		return err
	}
	b.askers[sealedOne] = &sealedAsker{to: b.bare.Sealed, pairs: one}
	b.askers[sealedDeep] = b.askers[sealedOne]
	b.askers[sealedMany] = &sealedAsker{to: b.bare.SealedMany, pairs: pairs}
	b.askers[sealedOurs] = &sealedAsker{to: b.bare.SealedOurs, pairs: ours}
	b.askers[publicEcho] = &publicAsker{to: b.bare.Public, side: side}
	return nil
}

// nodes makes the load that speaks culvert.
func (b *Bench) nodes() error {
	var members []*world.Member
	var ids []protocol.ID
	for i := range b.size.Peers {
		m, err := b.w.Member("peer", i)
		if err != nil {
			return err
		}
		members, ids = append(members, m), append(ids, m.Cert.ID)
	}
	with, err := b.w.Endpoint(true, 2, members)
	if err != nil {
		return err
	}
	without, err := b.w.Endpoint(false, 3, members[:1])
	if err != nil {
		return err
	}
	b.askers[pingOne] = newNodeAsker(with, ids[:1], b.peer, ping{})
	b.askers[pingDeep] = b.askers[pingOne]
	b.askers[pingMany] = newNodeAsker(with, ids, b.many, ping{})
	b.askers[pingSigned] = newNodeAsker(without, ids[:1], b.many, ping{})
	return nil
}

// Names of the cells; a %d is filled in with the size.
const (
	plainEcho  = "plain UDP echo"
	sealedOne  = "bare AES-256-GCM echo, 1 peer"
	sealedDeep = "bare AES-256-GCM echo, 1 peer, 1,024 under way"
	sealedMany = "bare AES-256-GCM echo, %d peers, recvmmsg/sendmmsg"
	sealedOurs = "bare AES-256-GCM echo, %d peers" // by culvert's own sockets
	publicEcho = "bare Ed25519+X25519 echo"
	pingOne    = "culvert Ping in a session, 1 peer"
	pingDeep   = "culvert Ping in a session, 1 peer, 1,024 under way"
	pingMany   = "culvert Ping in sessions, %d peers"
	pingSigned = "culvert Ping, signed (sessions off)"
)

// socketsOf has the kernel segment in the cells with one peer at one address, which is where it helps a node.
func socketsOf(name string) sockets {
	switch name {
	case plainEcho, sealedMany, publicEcho, selectEchoed:
		return bare
	case sealedOne, sealedDeep, pingOne, pingDeep:
		return segments
	}
	return single
}

func window(name string) int {
	if name == sealedDeep || name == pingDeep {
		return Deep
	}
	return Window
}

// label is a cell's name for people.
func (b *Bench) label(name string) string {
	switch name {
	case sealedMany, sealedOurs, pingMany:
		return fmt.Sprintf(name, b.size.Peers)
	case lookupNode, lookupTunnels, selectEchoed:
		return fmt.Sprintf(name, b.size.Records)
	}
	return name
}

// Group is the table of round trips.
func (b *Bench) Group() measure.Group {
	g := measure.Group{
		Title: "round trips",
		Notes: "one server process, one load process, one socket and one loop each; 64 requests under way, or 1,024;\n" +
			"sessions of as many peers; sealed and plain echo 200 bytes, Ed25519+X25519 echo and signed Ping 276 bytes. With 1 peer the kernel\n" +
			"segments (UDP GSO and GRO) on both sides, for the bare echo too, and culvert packs messages into shared datagrams. In all other\n" +
			"cells segmenting is off on both sides, as if each peer had an address of its own; there each message is a datagram. What says\n" +
			"recvmmsg/sendmmsg, the plain and the Ed25519+X25519 echo have sockets of their own; the others, bare or not, have culvert's",
	}
	for _, c := range [][2]string{
		{plainEcho, ""}, {sealedMany, plainEcho}, {sealedOurs, sealedMany}, {pingMany, sealedMany}, {sealedOne, plainEcho}, {pingOne, sealedOne},
		{sealedDeep, plainEcho}, {pingDeep, sealedDeep},
		{publicEcho, plainEcho}, {pingSigned, publicEcho},
	} {
		g.Cells = append(g.Cells, measure.Cell{Name: b.label(c[0]), Unit: "/s", Reference: b.label(c[1]), Run: b.driven(c[0], window(c[0]))})
	}
	return g
}

// driven runs one cell's load.
func (b *Bench) driven(name string, window int) func(context.Context, time.Duration) (measure.Sample, error) {
	return func(ctx context.Context, d time.Duration) (measure.Sample, error) {
		return drive(ctx, b.conns[name], b.askers[name], window, d)
	}
}

// Close ends the servers.
func (b *Bench) Close() error {
	var errs []error
	for _, c := range b.children {
		errs = append(errs, c.Close())
	}
	for _, c := range b.conns {
		errs = append(errs, c.Close())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}
