package main

import (
	"errors"
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"culvert/bench/echo"
	"culvert/bench/load"
	"culvert/bench/messages"
	"culvert/bench/peers"
	"culvert/bench/tunnels"
)

// The sections of a run.
const (
	sectionMessages = "messages"
	sectionTunnels  = "tunnels"
	sectionGrowth   = "growth"
)

// options of a run.
type options struct {
	bin      string
	results  string // folder
	rounds   int
	cell     time.Duration
	size     messages.Size
	tunnels  load.Size
	crowd    int // most tunnels that stand
	sections map[string]bool
	only     *regexp.Regexp
	profile  string
	quick    bool
	alone    bool
}

// notQuick reports whether a quick run leaves a cell out: it is for every day, and to be over in a minute.
func notQuick(cell string) bool {
	switch cell {
	case peers.SSHUsed, peers.QUIC, peers.Yamux, tunnels.DirectLink, tunnels.RelayedLink:
		return true
	}
	return strings.HasSuffix(cell, ", "+echo.One.String())
}

func parse(args []string) (*options, error) {
	o := &options{size: messages.Full, tunnels: load.Full, sections: make(map[string]bool)}
	var sections, only string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.StringVar(&o.bin, "bin", "", "culvert `binary` of which the version is noted")
	f.StringVar(&o.results, "results", filepath.Join("bench", "results"), "`folder` for the results of a whole run, empty for none")
	f.IntVar(&o.rounds, "rounds", 5, "runs of each cell")
	f.DurationVar(&o.cell, "cell", 2*time.Second, "length of one run")
	f.IntVar(&o.size.Peers, "peers", o.size.Peers, "identities in the cells with many")
	f.IntVar(&o.size.Records, "records", o.size.Records, "records of each table that is looked up")
	f.IntVar(&o.tunnels.Idle, "idle", o.tunnels.Idle, "connections that stand in the cells of memory")
	f.IntVar(&o.crowd, "crowd", tunnels.FullCrowd, "most tunnels that stand at once in the series")
	f.StringVar(&sections, "sections", sectionMessages+","+sectionTunnels+","+sectionGrowth, "what is measured")
	f.StringVar(&only, "only", "", "`expression` that a cell's “table: name” must match; nothing is kept")
	f.StringVar(&o.profile, "profile", "", "`folder` for CPU and heap profiles of every process; nothing is kept")
	f.BoolVar(&o.alone, "alone", false, "without the programs that Debian ships")
	f.BoolVar(&o.quick, "quick", false, "the most important cells, in a minute; nothing is kept")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("nothing follows the flags, but there is %q", f.Args())
	}
	if o.quick {
		o.hurry(f)
	}
	if o.rounds < 1 || o.cell <= 0 || o.size.Peers < 1 || o.size.Records < 2 || o.tunnels.Idle < 1 || o.crowd < 1 {
		return nil, errors.New("numbers must be positive")
	}
	for s := range strings.SplitSeq(sections, ",") {
		switch s {
		case sectionMessages, sectionTunnels, sectionGrowth:
			o.sections[s] = !o.quick || s != sectionGrowth
		default:
			return nil, fmt.Errorf("there is no section %q: %s, %s, %s", s, sectionMessages, sectionTunnels, sectionGrowth)
		}
	}
	if only != "" {
		var err error
		if o.only, err = regexp.Compile(only); err != nil {
			return nil, fmt.Errorf("-only: %w", err)
		}
	}
	return o, nil
}

// hurry makes a run short, but for what was asked for.
func (o *options) hurry(f *flag.FlagSet) {
	asked := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { asked[f.Name] = true })
	if !asked["rounds"] {
		o.rounds = 3
	}
	if !asked["cell"] {
		o.cell = 150 * time.Millisecond
	}
	if !asked["idle"] {
		o.tunnels.Idle = 300
	}
	if !asked["records"] {
		o.size.Records = min(o.size.Records, 10_000)
	}
}

// wants reports whether a cell is to be run.
func (o *options) wants(table, cell string) bool {
	if o.only != nil && !o.only.MatchString(table+": "+cell) {
		return false
	}
	return !o.quick || !notQuick(cell)
}

// whole reports whether the run is one to be kept and compared with.
func (o *options) whole() bool {
	return !o.quick && o.only == nil && o.profile == "" && len(o.sections) == 3 && o.results != ""
}
