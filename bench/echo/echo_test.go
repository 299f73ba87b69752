package echo

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"culvert/bench/measure"
	"culvert/bench/proc/proctest"
)

func TestMain(m *testing.M) { proctest.Main(m, Parts()) }

func TestEveryEchoAnswers(t *testing.T) {
	b, err := Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cells, err := b.Cells()
	if err != nil {
		t.Error(err)
	}
	g, err := measure.Run(t.Context(), measure.Group{Cells: cells}, 2, 20*time.Millisecond)
	if err != nil {
		t.Error(err)
	}
	want := 11
	if len(b.Missing()) > 0 {
		want = 8
	}
	if len(g.Rows) != want {
		t.Errorf("%d rows, missing %q", len(g.Rows), b.Missing())
	}
	for _, r := range g.Rows {
		t.Logf("%-50s %.0f", r.Name, r.Runs)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// against runs the load of a kind of work against a server that does what respond does.
func against(t *testing.T, respond responder, a Asker, d time.Duration) (measure.Sample, error) {
	t.Helper()
	s, err := listen(Batch)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- serve(s, respond) }()
	v, err := Drive(t.Context(), s.addr(), Batch, a, d)
	_ = s.close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	return v, err
}

func TestWrongAnswersAreErrors(t *testing.T) {
	sealedLoad, err := newSealed()
	if err != nil {
		t.Fatal(err)
	}
	for name, a := range map[string]Asker{"plain": plain{}, "sealed": sealedLoad, "signed": newSigned(0), "row": rowAsker{}} {
		if _, err := against(t, func(b []byte) error { b[20] ^= 1; b[len(b)-1] ^= 1; return nil }, a, time.Millisecond); err == nil {
			t.Errorf("%s: a changed answer passes", name)
		}
	}
	if _, err := against(t, func(b []byte) error { return nil }, newSigned(0), time.Millisecond); !errors.Is(err, errOpen) {
		t.Errorf("the request itself is an answer: %v", err)
	}
}

// A whole window is swallowed: it is counted, and asked for again. The load goes on until something is answered.
func TestLostRequestsAreCounted(t *testing.T) {
	s, err := listen(One)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() {
		for n := 0; ; n++ {
			l, err := s.read()
			if err != nil {
				served <- nil
				return
			}
			if n >= window {
				_ = s.write(l)
			}
		}
	}()
	v, err := Drive(t.Context(), s.addr(), One, plain{}, time.Millisecond)
	_ = s.close()
	<-served
	if err != nil || v.Lost < window || v.Value <= 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestParcelsAreCut(t *testing.T) {
	p := parcel{addr: netip.AddrPort{}, buf: make([]byte, 450), segment: 200}
	var sizes []int
	if err := p.each(func(b []byte) error { sizes = append(sizes, len(b)); return nil }); err != nil || fmt.Sprint(sizes) != "[200 200 50]" {
		t.Errorf("%v, %v", sizes, err)
	}
}
