//go:build linux && netlab && netlabfull

package matrix

import (
	"flag"
	"path/filepath"
	"testing"
)

var rounds = flag.Int("rounds", 5, "how often each pair is tried")

// Every ordered pair of kinds, some times; the results are kept, also when they
// got worse.
func TestEveryPair(t *testing.T) {
	r := measure(t, *rounds, Batches(Kinds()))
	path, err := r.Write(filepath.Join("..", "..", "results"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("results in %s", path)
	for _, d := range r.Failed() {
		t.Errorf("%s: %s", d.Name, d.Got)
	}
}
