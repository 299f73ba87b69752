package measure

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func cell(name string, order *[]string, v float64, err error) Cell {
	return Cell{Name: name, Unit: "/s", Run: func(context.Context, time.Duration) (Sample, error) {
		*order = append(*order, name)
		return Sample{Value: v, Lost: 1}, err
	}}
}

func TestCellsTakeTurns(t *testing.T) {
	var order []string
	g, err := Run(t.Context(), Group{Title: "g", Cells: []Cell{cell("a", &order, 1, nil), cell("b", &order, 2, nil)}}, 3, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "a b a b a b" {
		t.Errorf("order %s", got)
	}
	if len(g.Rows) != 2 || len(g.Rows[1].Runs) != 3 || g.Rows[1].Runs[2] != 2 || g.Rows[1].Lost != 3 {
		t.Errorf("%+v", g.Rows)
	}
}

func TestNoFigureWithoutWork(t *testing.T) {
	var order []string
	boom := errors.New("boom")
	if _, err := Run(t.Context(), Group{Cells: []Cell{cell("a", &order, 1, boom)}}, 3, time.Second); !errors.Is(err, boom) {
		t.Errorf("got %v", err)
	}
	if _, err := Run(t.Context(), Group{Cells: []Cell{cell("a", &order, 0, nil)}}, 3, time.Second); err == nil {
		t.Error("a cell that did nothing has a figure")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Group{Cells: []Cell{cell("a", &order, 1, nil)}}, 1, time.Second); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
