package sim

import (
	"flag"
	"io"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	seeds  = flag.Uint64("seeds", 20, "how many seeds to run")
	first  = flag.Uint64("first", 1, "the first of them")
	trials = flag.Int("trials", 60, "lookups for each kind of lie")
	meshes = flag.Uint64("meshes", 2, "meshes for each scenario that wants many")
	hours  = flag.Uint64("hours", 1, "how long the operator is off")
	one    = flag.Uint64("seed", 0, "run this seed alone; with -v its trace is printed")
)

func TestSeeds(t *testing.T) {
	if *one != 0 {
		var log io.Writer
		if testing.Verbose() {
			log = os.Stdout
		}
		report(t, Seed(*one, log))
		return
	}
	var next atomic.Uint64
	next.Store(*first)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < *first+*seeds; n = next.Add(1) - 1 {
				report(t, Seed(n, nil))
			}
		})
	}
	wg.Wait()
}

func report(t *testing.T, s *Sim) {
	for _, v := range s.Violations() {
		t.Errorf("seed %d: %s", s.seed, v)
	}
	t.Logf("seed %d: %+v trace %x", s.seed, s.Stats, s.Trace())
}
