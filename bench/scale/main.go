package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"culvert/bench/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

// command is the model on the command line.
func command(ctx context.Context, args []string, w io.Writer) error {
	now := time.Now()
	sc := full()
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	bin := f.String("bin", "", "culvert `binary` of which the version is noted")
	dir := f.String("dir", filepath.Join("bench", "results"), "`folder` for the results")
	small := f.Bool("quick", false, "little of everything")
	seed := f.Uint64("seed", sc.Seed, "of all that is drawn")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("nothing follows the flags (%q)", f.Args())
	}
	if *small {
		sc = quick()
	}
	sc.Seed = *seed
	st, err := conduct(sc, usual(), func(step string) { fmt.Fprintln(w, step) })
	if err != nil {
		return err
	}
	st.Date, st.Culvert, st.Machine = now.UTC().Truncate(time.Second), report.Version(ctx, *bin), report.ThisMachine(ctx)
	path, err := st.write(*dir)
	if err != nil {
		return err
	}
	if err := st.print(w); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\nresults in %s and beside it\n", path)
	return err
}

// write keeps the numbers as JSON and the plots in a folder of the same name.
func (st *study) write(dir string) (path string, err error) {
	name := "scale-" + strings.TrimSuffix(report.FileName(st.Date), ".json")
	folder := filepath.Join(dir, name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("write the results: %w", err)
	}
	b, err := json.MarshalIndent(st, "", " ")
	if err != nil {
		return "", fmt.Errorf("encode the results: %w", err)
	}
	path = folder + ".json"
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("write the results: %w", err)
	}
	for _, p := range st.pictures() {
		if err := os.WriteFile(filepath.Join(folder, p.file+".svg"), p.SVG(), 0o644); err != nil {
			return "", fmt.Errorf("write a plot: %w", err)
		}
	}
	return path, nil
}

// print is the study in a few lines.
func (st *study) print(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%-10s %-12s %12s %12s %14s %14s %14s\n", "nodes", "design", "super-nodes", "operator/s", "with lookups ×", "super-node B/s", "user B/s")
	for i, p := range append(st.Points, st.Sparse) {
		if i == len(st.Points) {
			fmt.Fprintf(&b, "with one super-node in %d nodes, of which one holds %s records and is asked %.1f times a second at most:\n",
				sparsely, report.Number(p.Geometry.Records.Max), p.Geometry.Queries.Max)
		}
		for _, l := range p.Loads {
			fmt.Fprintf(&b, "%-10d %-12s %12d %12s %14.3f %14s %14s\n", p.Nodes, l.Name, p.Churn.Supers, report.Number(l.Operator.total().Messages),
				l.Ratio, report.Number(l.Super.total().Bytes), report.Number(l.User.total().Bytes))
		}
	}
	fmt.Fprintf(&b, "\na reader takes in %d entries of a map at once\n", st.MapLimit)
	for _, p := range st.Points {
		fmt.Fprintf(&b, "%d nodes: %.3f maps/s, %.3f entries/s; so many have changed after %s minutes\n", p.Nodes, p.Churn.Maps, p.Churn.Entries, report.Number(p.Behind/60))
	}

	for _, c := range st.Capacity {
		fmt.Fprintf(&b, "%d nodes: %s relayed tunnels at once with 1 %% refused, enough for %s users\n", c.Nodes, report.Number(c.Carried), report.Number(c.Users))
	}
	for _, m := range st.Malice {
		fmt.Fprintf(&b, "%s, %g %%: K=2 meets one %.4f, two %.4f; most of a range %.2f, majority at %.5f of nodes\n", m.Attacker, 100*m.Share, m.Any[1], m.All[1], m.Worst, m.Majority)
		for _, x := range m.Lies {
			fmt.Fprintf(&b, "    %-8s %.2f asked, stale %.5f, wrongly none %.5f, nobody %.5f, unsure %.5f, slow %.4f\n",
				x.Manner, x.Asks, x.Stale, x.WronglyNone, x.Unreachable, x.Unsure, x.Slow)
		}
	}
	for _, f := range st.Fallback {
		fmt.Fprintf(&b, "loss %g %%: %.2f asked, operator %.4f a lookup, ratio %.3f as built, %.3f recommended\n", 100*f.Loss, f.Readings.Asks, f.Readings.Operator, f.Ratios.AsBuilt, f.Ratios.Recommended)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
