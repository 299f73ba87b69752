package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"culvert/bench/echo"
	"culvert/bench/load"
	"culvert/bench/measure"
	"culvert/bench/messages"
	"culvert/bench/peers"
	"culvert/bench/report"
	"culvert/bench/tunnels"
)

// runMessages has culvert, the bare echoes and the peers in one table: all take turns.
func runMessages(ctx context.Context, o *options, p *peers.Peers, r *report.Report, w io.Writer) (err error) {
	bare, err := echo.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.Close()) }()
	for _, m := range bare.Missing() {
		r.Missing = append(r.Missing, m)
		if _, err := fmt.Fprintln(w, m); err != nil {
			return err
		}
	}
	b, err := messages.Start(ctx, o.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	others, err := p.RoundTrips(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, others.Close()) }()
	cells, err := bare.Cells()
	if err != nil {
		return err
	}
	g := b.Group()
	g.Cells = slices.Concat(cells, others.Cells, g.Cells)
	r.Claims = append(r.Claims, b.Claims(g.Title)...)
	if err := table(ctx, o, r, w, g); err != nil {
		return err
	}
	rows, columns := echo.Grid()
	if err := r.PrintGrid(w, "bare echoes of 200 bytes, medians a second", g.Title, rows, columns); err != nil {
		return err
	}
	g = b.RecordsGroup()
	r.Claims = append(r.Claims, b.RecordsClaims(g.Title)...)
	return table(ctx, o, r, w, g)
}

// plainTCP is the way of the load to the device itself.
const plainTCP = "plain TCP"

// encrypted are the peers that tunnels are compared with.
var encrypted = []string{peers.SSHUsed, peers.SSH, peers.Stunnel, peers.Haproxy, peers.GoTLS, peers.Yamux, peers.QUIC}

func runTunnels(ctx context.Context, o *options, p *peers.Peers, r *report.Report, w io.Writer) (err error) {
	device, at, err := load.StartDevice(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, device.Close()) }()
	b, err := tunnels.Start(ctx, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	others, err := p.Tunnels(ctx, at)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, others.Close()) }()
	ways := slices.Concat([]load.Way{{Name: plainTCP, To: at}}, others.Ways, b.Ways())
	placed, echo := load.PlacedTable(ways, load.Proc{Name: "device", PID: device.PID()}), load.EchoPlaced
	if len(placed.Cells) == 0 { // then the claim is on the echo as the system places it
		echo = load.Echo
	}
	for _, g := range append(load.Tables(ways, o.tunnels), placed) {
		if err := table(ctx, o, r, w, g); err != nil {
			return err
		}
	}
	for _, g := range b.RelayTables(o.tunnels) {
		if err := table(ctx, o, r, w, g); err != nil {
			return err
		}
	}
	r.Claims = append(r.Claims, tunnels.RelayClaims()...)
	r.Claims = append(r.Claims, tunnels.Claims(o.tunnels, echo, peers.SSH, encrypted)...)
	return r.PrintSummary(w, "tunnels, medians", []report.Column{
		{Label: "1 stream MB/s", Table: load.OneStream},
		{Label: fmt.Sprintf("%d streams", o.tunnels.Streams), Table: fmt.Sprintf(load.Streams, o.tunnels.Streams)},
		{Label: "CPU s/GB", Table: load.CPU},
		{Label: "new conn/s", Table: fmt.Sprintf(load.NewConns, o.tunnels.AtOnce)},
		{Label: "echo µs", Table: load.Echo},
		{Label: "placed", Table: load.EchoPlaced},
		{Label: "KB idle", Table: fmt.Sprintf(load.IdleMemory, o.tunnels.Idle)},
	})
}

// table measures what is wanted of a table, prints and keeps it.
func table(ctx context.Context, o *options, r *report.Report, w io.Writer, g measure.Group) error {
	g.Cells = slices.DeleteFunc(g.Cells, func(c measure.Cell) bool { return !o.wants(g.Title, c.Name) })
	if len(g.Cells) == 0 {
		return nil
	}
	rounds := o.rounds
	if o.quick && g.Steady {
		rounds = 1
	}
	res, err := measure.Run(ctx, g, rounds, o.cell)
	if err != nil {
		return err
	}
	r.Groups = append(r.Groups, res)
	return res.Print(w)
}
