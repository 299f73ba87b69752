package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"culvert/bench/load"
	"culvert/bench/measure"
	"culvert/bench/messages"
	"culvert/bench/proc"
	"culvert/bench/report"
	"culvert/bench/tunnels"
)

func parts() map[string]proc.Part {
	p := messages.Parts()
	maps.Copy(p, load.Parts())
	maps.Copy(p, tunnels.Parts())
	return p
}

func main() {
	if ran, err := proc.Run(parts()); ran {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	exit(command(ctx, os.Args[1:], os.Stdout))
}

func exit(err error) {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	default:
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options of a run.
type options struct {
	bin     string
	json    string
	rounds  int
	cell    time.Duration
	size    messages.Size
	tunnels load.Size
}

// command is bench on the command line.
func command(ctx context.Context, args []string, w io.Writer) error {
	now := time.Now()
	o := options{size: messages.Full, tunnels: load.Full}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.bin, "bin", "", "culvert `binary` of which the version is noted")
	f.StringVar(&o.json, "json", filepath.Join("bench", "results", report.FileName(now)), "`file` for the results, empty for none")
	f.IntVar(&o.rounds, "rounds", 5, "runs of each cell")
	f.DurationVar(&o.cell, "cell", time.Second, "length of one run")
	f.IntVar(&o.size.Peers, "peers", o.size.Peers, "identities in the cells with many")
	f.IntVar(&o.size.Records, "records", o.size.Records, "records of each table that is looked up")
	f.IntVar(&o.tunnels.Idle, "idle", o.tunnels.Idle, "connections that stand in the cells of memory")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || o.rounds < 1 || o.cell <= 0 || o.size.Peers < 1 || o.size.Records < 2 || o.tunnels.Idle < 1 {
		return fmt.Errorf("numbers must be positive, and nothing follows the flags (%q)", f.Args())
	}
	r := &report.Report{
		Date: now, Culvert: report.Version(ctx, o.bin), Machine: report.ThisMachine(ctx), Rounds: o.rounds, Seconds: o.cell.Seconds(),
	}
	if err := run(ctx, o, r, w); err != nil {
		return err
	}
	if o.json == "" {
		return nil
	}
	if err := r.Write(o.json); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\nresults in %s\n", o.json)
	return err
}

// run measures everything and prints each table as soon as it is there.
func run(ctx context.Context, o options, r *report.Report, w io.Writer) error {
	if err := r.PrintHead(w); err != nil {
		return err
	}
	if err := runMessages(ctx, o, r, w); err != nil {
		return err
	}
	if err := runTunnels(ctx, o, r, w); err != nil {
		return err
	}
	return runGrowths(ctx, o, r, w)
}

func runMessages(ctx context.Context, o options, r *report.Report, w io.Writer) (err error) {
	b, err := messages.Start(ctx, o.size)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return table(ctx, o, r, w, b.Group())
}

func runTunnels(ctx context.Context, o options, r *report.Report, w io.Writer) (err error) {
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
	ways := append([]load.Way{{Name: "plain TCP", To: at}}, b.Ways()...)
	for _, g := range load.Tables(ways, o.tunnels) {
		if err := table(ctx, o, r, w, g); err != nil {
			return err
		}
	}
	return nil
}

func table(ctx context.Context, o options, r *report.Report, w io.Writer, g measure.Group) error {
	res, err := measure.Run(ctx, g, o.rounds, o.cell)
	if err != nil {
		return err
	}
	r.Groups = append(r.Groups, res)
	return res.Print(w)
}
