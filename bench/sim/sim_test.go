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
	seeds  = flag.Uint64("seeds", 6, "how many seeds to run")
	first  = flag.Uint64("first", 1, "the first of them")
	trials = flag.Int("trials", 12, "lookups for each kind of lie")
	meshes = flag.Uint64("meshes", 1, "meshes for each scenario that wants many")
	hours  = flag.Uint64("hours", 1, "how long the operator is off")
	one    = flag.Uint64("seed", 0, "run this seed alone; with -v its trace is printed")
)

// few is n, or less where a test is to be short: what runs in one goroutine shows the race detector nothing.
func few[N int | uint64](n, less N) N {
	if testing.Short() {
		return min(n, less)
	}
	return n
}

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
	end := *first + few(*seeds, 3)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := next.Add(1) - 1; n < end; n = next.Add(1) - 1 {
				report(t, Seed(n, nil))
			}
		})
	}
	wg.Wait()
}

// TestSeedReplays: what happens is a function of the seed, whatever else runs and on how many processors.
func TestSeedReplays(t *testing.T) {
	for _, seed := range []uint64{3, 8} {
		want := Seed(seed, nil)
		var traces [2]uint64
		var wg sync.WaitGroup
		for i := range traces {
			wg.Go(func() { traces[i] = Seed(seed, nil).Trace() })
		}
		wg.Wait()
		procs := runtime.GOMAXPROCS(1)
		alone := Seed(seed, io.Discard)
		runtime.GOMAXPROCS(procs)
		for _, got := range append(traces[:], alone.Trace()) {
			if got != want.Trace() {
				t.Errorf("seed %d: trace %x, and then %x", seed, want.Trace(), got)
			}
		}
		if alone.Stats != want.Stats {
			t.Errorf("seed %d: %+v, and then %+v", seed, want.Stats, alone.Stats)
		}
		if Seed(seed+1, nil).Trace() == want.Trace() {
			t.Errorf("seeds %d and %d are one", seed, seed+1)
		}
	}
}

func report(t *testing.T, s *Sim) {
	for _, v := range s.Violations() {
		t.Errorf("seed %d: %s", s.seed, v)
	}
	t.Logf("seed %d: %+v trace %x", s.seed, s.Stats, s.Trace())
}
