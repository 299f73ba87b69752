package tunnels

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"

	"culvert/bench/load"
	"culvert/bench/proc"
)

// A controlled part listens for orders beside its work: one order a connection, a line of JSON each way.

// order is what a part is told to do.
type order struct {
	Do  string
	Arg json.RawMessage
}

// outcome is what came of it.
type outcome struct {
	Error string
	Value json.RawMessage
}

// controlled is where a part is: its own words, and where it takes orders.
type controlled[T any] struct {
	At      T
	Control netip.AddrPort
}

// doing is what a part does on order.
type doing map[string]func(context.Context, json.RawMessage) (any, error)

// orderTrim is what every controlled part does: give unused memory back, as the daemon does while it is idle.
const orderTrim = "trim"

// held is what a part's runtime holds.
type held struct {
	Goroutines    int
	Heap, Stacks  uint64
	OutsideOfHeap uint64 // beside stacks
}

func trim(context.Context, json.RawMessage) (any, error) {
	runtime.GC() // pools keep what they lend through one collection
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return held{runtime.NumGoroutine(), m.HeapAlloc, m.StackInuse, m.Sys - m.HeapSys - m.StackSys}, nil
}

// obeying has a part take orders as well; it says where in the same breath as where it is.
func obeying(part proc.Part, orders doing) proc.Part {
	return func(ctx context.Context, arg json.RawMessage, ready func(any) error) (err error) {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return fmt.Errorf("take orders: %w", err)
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		defer l.Close()
		wg.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				wg.Go(func() {
					defer c.Close()
					defer context.AfterFunc(ctx, func() { _ = c.Close() })()
					_ = json.NewEncoder(c).Encode(orders.do(ctx, c))
				})
			}
		})
		return part(ctx, arg, func(at any) error {
			return ready(controlled[any]{at, l.Addr().(*net.TCPAddr).AddrPort()})
		})
	}
}

// do carries one order out.
func (d doing) do(ctx context.Context, c net.Conn) outcome {
	var o order
	if err := json.NewDecoder(c).Decode(&o); err != nil {
		return outcome{Error: err.Error()}
	}
	fn := d[o.Do]
	if o.Do == orderTrim {
		fn = trim
	}
	if fn == nil {
		return outcome{Error: "no such order: " + o.Do}
	}
	v, err := fn(ctx, o.Arg)
	if err != nil {
		return outcome{Error: err.Error()}
	}
	b, err := json.Marshal(v)
	if err != nil {
		return outcome{Error: err.Error()}
	}
	return outcome{Value: b}
}

// tell gives a part an order and waits for what comes of it.
func tell(ctx context.Context, to netip.AddrPort, do string, arg, into any) error {
	a, err := json.Marshal(arg)
	if err != nil {
		return err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return fmt.Errorf("order %s: %w", do, err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	if err := json.NewEncoder(c).Encode(order{do, a}); err != nil {
		return fmt.Errorf("order %s: %w", do, err)
	}
	var o outcome
	if err := json.NewDecoder(c).Decode(&o); err != nil {
		return fmt.Errorf("order %s: %w", do, errors.Join(err, ctx.Err()))
	}
	if o.Error != "" {
		return fmt.Errorf("order %s: %s", do, o.Error)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(o.Value, into)
}

// crew is a controlled process.
type crew[T any] struct {
	*proc.Child
	at controlled[T]
}

// startCrew starts a controlled part.
func startCrew[T any](ctx context.Context, part string, arg any) (*crew[T], error) {
	var c crew[T]
	var err error
	if c.Child, err = proc.Start(ctx, part, arg, &c.at); err != nil {
		return nil, err
	}
	return &c, nil
}

// tell gives the process an order.
func (c *crew[T]) tell(ctx context.Context, do string, arg, into any) error {
	return tell(ctx, c.at.Control, do, arg, into)
}

// state is what a process holds, by its runtime and by the kernel.
type state struct {
	held
	load.Use
}

// rest has the process give back what it does not use, and says what it still holds.
func (c *crew[T]) rest(ctx context.Context) (s state, err error) {
	if err := c.tell(ctx, orderTrim, nil, &s.held); err != nil {
		return s, err
	}
	if s.Use, err = load.Using([]load.Proc{{PID: c.PID()}}); errors.Is(err, load.ErrUnknown) {
		err = nil // the runtime's own figures are everywhere
	}
	return s, err
}
