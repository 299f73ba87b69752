package measure

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// growth notes in order what is built, run and closed.
func growth(order *[]string, together bool) Growth {
	return Growth{Title: "t", X: "things", Sizes: []int{1, 10}, Together: together, At: func(_ context.Context, size int) ([]GrowthCell, func() error, error) {
		*order = append(*order, fmt.Sprintf("open%d", size))
		return []GrowthCell{{Cell: cell(fmt.Sprint("c", size), order, float64(size), nil)}},
			func() error { *order = append(*order, fmt.Sprintf("close%d", size)); return nil }, nil
	}}
}

func TestGrowth(t *testing.T) {
	for together, want := range map[bool]string{
		true:  "open1 open10 c1 c10 c1 c10 close1 close10",
		false: "open1 c1 c1 close1 open10 c10 c10 close10",
	} {
		var order []string
		g := growth(&order, together)
		at := g.At
		g.At = func(ctx context.Context, size int) ([]GrowthCell, func() error, error) {
			c, end, err := at(ctx, size)
			c[0].Name, c[0].Within = "c", 1.5
			return c, end, err
		}
		s, err := RunGrowth(t.Context(), g, 2, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(order, " "); got != want {
			t.Errorf("together %v: %s", together, got)
		}
		if len(s.Lines) != 1 || s.Lines[0].Within != 1.5 || len(s.Lines[0].Points) != 2 || s.Lines[0].Points[1].Size != 10 || len(s.Lines[0].Points[1].Runs) != 2 {
			t.Errorf("%+v", s)
		}
	}
}

func TestGrowthOfDifferentCells(t *testing.T) {
	var order []string
	if _, err := RunGrowth(t.Context(), growth(&order, true), 1, time.Second); err == nil {
		t.Error("cells with other names are one line")
	}
	if !strings.HasSuffix(strings.Join(order, " "), "close1 close10") {
		t.Errorf("after an error the worlds stand: %v", order)
	}
}

func TestGrowthWithoutAWorld(t *testing.T) {
	boom := errors.New("boom")
	var order []string
	g := growth(&order, true)
	at := g.At
	g.At = func(ctx context.Context, size int) ([]GrowthCell, func() error, error) {
		if size > 1 {
			return nil, nil, boom
		}
		return at(ctx, size)
	}
	if _, err := RunGrowth(t.Context(), g, 1, time.Second); !errors.Is(err, boom) || strings.Join(order, " ") != "open1 close1" {
		t.Errorf("%v, %v", err, order)
	}
}

func TestDecades(t *testing.T) {
	for want, got := range map[string][]int{"[1 10 100]": Decades(1, 100), "[1 8]": Decades(1, 8), "[1]": Decades(1, 1), "[1000 10000]": Decades(1000, 10_000)} {
		if fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}
