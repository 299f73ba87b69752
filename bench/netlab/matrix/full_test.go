//go:build linux && netlab && netlabfull

package matrix

import (
	"path/filepath"
	"testing"
)

// Every ordered pair of kinds, five times; the results are kept, also when they
// got worse.
func TestEveryPair(t *testing.T) {
	r := measure(t, 5, Batches(Kinds()))
	path, err := r.Write(filepath.Join("..", "..", "results"))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("results in %s", path)
	for _, d := range r.Failed() {
		t.Errorf("%s: %s", d.Name, d.Got)
	}
}
