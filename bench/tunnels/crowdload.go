package tunnels

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"culvert/bench/load"
	"culvert/bench/report"
)

const (
	orderHold = "hold" // a connection to each of these addresses
	orderAsk  = "ask"  // every connection that is held
	orderEcho = "echo" // one of them for so long
	orderDrop = "drop" // the last so many
	// holdsAtOnce is how many are made, or asked, at once.
	holdsAtOnce = 32
	// answerLimit is how long a connection may take to answer before it counts as dead.
	answerLimit = 2 * time.Minute
)

// answered is what came of orderHold, orderAsk and orderEcho.
type answered struct {
	Count  int
	Median float64 // microseconds for one
}

// holder holds connections and has them answer on order.
type holder struct {
	mu    sync.Mutex
	conns []net.Conn
}

// crowdLoad is who uses the tunnels.
func crowdLoad(ctx context.Context, arg json.RawMessage, ready func(any) error) error {
	var h holder
	defer func() { hangUp(h.conns) }()
	return obeying(func(ctx context.Context, _ json.RawMessage, ready func(any) error) error {
		if err := ready(nil); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	}, doing{orderHold: h.hold, orderAsk: h.ask, orderEcho: h.echo, orderDrop: h.drop})(ctx, arg, ready)
}

func (h *holder) hold(ctx context.Context, arg json.RawMessage) (any, error) {
	var to []netip.AddrPort
	if err := json.Unmarshal(arg, &to); err != nil {
		return nil, err
	}
	l := make([]net.Conn, len(to))
	a, err := timed(len(to), func(i int) (err error) {
		var d net.Dialer
		if l[i], err = d.DialContext(ctx, "tcp", to[i].String()); err != nil {
			return err
		}
		_ = l[i].SetDeadline(time.Now().Add(answerLimit))
		return load.Ask(l[i])
	})
	h.mu.Lock()
	for _, c := range l {
		if c != nil {
			h.conns = append(h.conns, c)
		}
	}
	h.mu.Unlock()
	return a, err
}

// timed does n things, so many at once, and tells how long one took.
func timed(n int, fn func(i int) error) (answered, error) {
	took := make([]float64, n)
	err := load.Each(min(n, holdsAtOnce), func(w int) error {
		for i := w; i < n; i += holdsAtOnce {
			began := time.Now()
			if err := fn(i); err != nil {
				return fmt.Errorf("number %d of %d: %w", i, n, err)
			}
			took[i] = float64(time.Since(began).Nanoseconds()) / 1e3
		}
		return nil
	})
	return answered{n, report.Median(took)}, err
}

func (h *holder) held() []net.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.conns
}

func (h *holder) ask(context.Context, json.RawMessage) (any, error) {
	l := h.held()
	return timed(len(l), func(i int) error {
		_ = l[i].SetDeadline(time.Now().Add(answerLimit))
		return load.Again(l[i])
	})
}

// echo has one connection in the midst of the others go back and forth.
func (h *holder) echo(_ context.Context, arg json.RawMessage) (any, error) {
	var d time.Duration
	if err := json.Unmarshal(arg, &d); err != nil {
		return nil, err
	}
	l := h.held()
	c := l[len(l)/2]
	end := time.Now().Add(d)
	_ = c.SetDeadline(end.Add(answerLimit))
	var took []float64
	for began := time.Now(); len(took) == 0 || began.Before(end); {
		if err := load.Again(c); err != nil {
			return nil, err
		}
		now := time.Now()
		took = append(took, float64(now.Sub(began).Nanoseconds())/1e3)
		began = now
	}
	return answered{len(took), report.Median(took)}, nil
}

func (h *holder) drop(_ context.Context, arg json.RawMessage) (any, error) {
	var n int
	if err := json.Unmarshal(arg, &n); err != nil {
		return nil, err
	}
	h.mu.Lock()
	n = min(n, len(h.conns))
	l := slices.Clone(h.conns[len(h.conns)-n:])
	h.conns = slices.Delete(h.conns, len(h.conns)-n, len(h.conns)) // which lets go of them
	h.mu.Unlock()
	hangUp(l)
	return nil, nil
}
