// While processes are placed on single cores the runtime would have them run one goroutine at a time after up to a second, and go
// back as late, in the middle of what is measured next.
//
//go:debug updatemaxprocs=0

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
	"time"

	"culvert/bench/echo"
	"culvert/bench/load"
	"culvert/bench/messages"
	"culvert/bench/peers"
	"culvert/bench/proc"
	"culvert/bench/report"
	"culvert/bench/tunnels"
)

func parts() map[string]proc.Part {
	all := make(map[string]proc.Part)
	for _, p := range []map[string]proc.Part{messages.Parts(), echo.Parts(), load.Parts(), tunnels.Parts(), peers.Parts()} {
		maps.Copy(all, p)
	}
	return all
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

// command is bench on the command line.
func command(ctx context.Context, args []string, w io.Writer) (err error) {
	o, err := parse(args)
	if err != nil {
		return err
	}
	p := peers.Find()
	if o.alone {
		p = peers.Only()
	}
	r := &report.Report{
		Date: time.Now(), Culvert: report.Version(ctx, o.bin), Machine: report.ThisMachine(ctx), Rounds: o.rounds, Seconds: o.cell.Seconds(),
		Peers: p.Versions(ctx), Missing: p.Missing(),
	}
	if o.profile != "" {
		stop, err := proc.Profile(o.profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if err := run(ctx, o, p, r, w); err != nil {
		return err
	}
	took := time.Since(r.Date)
	r.Took = took.Seconds()
	if _, err := fmt.Fprintf(w, "\ntook %v\n", took.Round(time.Second)); err != nil {
		return err
	}
	return keep(o, r, w)
}

// run measures everything and prints each table as soon as it is there.
func run(ctx context.Context, o *options, p *peers.Peers, r *report.Report, w io.Writer) error {
	if err := r.PrintHead(w); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		run  func(context.Context, *options, *peers.Peers, *report.Report, io.Writer) error
	}{{sectionMessages, runMessages}, {sectionTunnels, runTunnels}, {sectionGrowth, runGrowths}} {
		if !o.sections[s.name] {
			continue
		}
		if err := s.run(ctx, o, p, r, w); err != nil {
			return err
		}
	}
	if o.only != nil {
		return nil // what is wanted needs whole tables
	}
	for i, c := range r.Claims {
		r.Claims[i] = c.Judge(r)
	}
	return report.PrintClaims(w, r.Claims)
}
