package tunnels

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"culvert/bench/proc"
)

// Crowd is many tunnels at once, from a few user-nodes, through one super-node, to one tunnel-node, each with a local port of
// its own and a connection that stands. A process cannot have descriptors enough for both ends of so many, so that load,
// user-nodes, super-node, tunnel-node and device are a process each.
type Crowd struct {
	device *proc.Child
	relay  *crew[netip.AddrPort]
	agent  *crew[netip.AddrPort]
	users  []*crew[any]
	load   *crew[any]
	open   int // tunnels
}

// StartCrowd starts the processes; there are no tunnels yet, but each user-node has had some, so that what the first ones bring
// into memory once and for all is there, and the links are.
func StartCrowd(ctx context.Context) (*Crowd, error) {
	c := new(Crowd)
	err := c.start(ctx)
	if err == nil {
		_, err = c.Grow(ctx, 8*users)
	}
	if err == nil {
		err = c.Shrink(ctx, 8*users)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Crowd) start(ctx context.Context) (err error) {
	var at places
	var ports []uint16
	if c.device, err = proc.Start(ctx, partCrowdDevice, nil, &ports); err != nil {
		return err
	}
	at.Device, at.More = ports[0], ports[1:]
	if c.relay, err = startCrew[netip.AddrPort](ctx, partCrowdRelay, at); err != nil {
		return err
	}
	at.Relay = c.relay.at.At
	if c.agent, err = startCrew[netip.AddrPort](ctx, partCrowdAgent, at); err != nil {
		return err
	}
	at.Agent = c.agent.at.At
	for at.User = range users {
		u, err := startCrew[any](ctx, partCrowdUser, at)
		if err != nil {
			return err
		}
		c.users = append(c.users, u)
	}
	c.load, err = startCrew[any](ctx, partCrowdLoad, nil)
	return err
}

// Grown is what came of opening tunnels.
type Grown struct {
	Open  float64 // milliseconds to open a tunnel, median
	First float64 // microseconds until the first connection through it has answered, median
	Took  time.Duration
}

// share is user-node i's part of n tunnels.
func share(n, i int) int { return n*(i+1)/users - n*i/users }

// Grow opens n more tunnels, with a connection through each that has answered.
func (c *Crowd) Grow(ctx context.Context, n int) (g Grown, err error) {
	began := time.Now()
	for i, u := range c.users {
		k := share(n, i)
		if k == 0 {
			continue
		}
		var o opened
		if err := u.tell(ctx, orderOpen, k, &o); err != nil {
			return g, err
		}
		var a answered
		if err := c.load.tell(ctx, orderHold, o.At, &a); err != nil {
			return g, err
		}
		g.Open, g.First = max(g.Open, o.Median), max(g.First, a.Median)
	}
	c.open += n
	g.Took = time.Since(began)
	return g, nil
}

// Shrink closes n tunnels, with their connections; all, or so many as were opened last.
func (c *Crowd) Shrink(ctx context.Context, n int) error {
	if err := c.load.tell(ctx, orderDrop, n, nil); err != nil {
		return err
	}
	for i, u := range c.users {
		if err := u.tell(ctx, orderClose, share(n, i), nil); err != nil {
			return err
		}
	}
	c.open -= n
	return nil
}

// Ask has every tunnel's connection answer.
func (c *Crowd) Ask(ctx context.Context) error {
	var a answered
	if err := c.load.tell(ctx, orderAsk, nil, &a); err != nil {
		return err
	}
	if a.Count != c.open {
		return fmt.Errorf("%d of %d tunnels have a connection", a.Count, c.open)
	}
	return nil
}

// Node is one of the crowd's nodes.
type Node struct {
	Name string
	state
}

// Nodes are what the nodes hold when they have given back what they do not use.
func (c *Crowd) Nodes(ctx context.Context) (l []Node, err error) {
	add := func(name string, s state, err error) error {
		l = append(l, Node{name, s})
		return err
	}
	for i, u := range c.users {
		s, err := u.rest(ctx)
		if err := add(fmt.Sprintf("user-node %d", i+1), s, err); err != nil {
			return nil, err
		}
	}
	s, err := c.relay.rest(ctx)
	if err := add("super-node", s, err); err != nil {
		return nil, err
	}
	s, err = c.agent.rest(ctx)
	return l, add("tunnel-node", s, err)
}

// Close ends the processes: who asks before who answers.
func (c *Crowd) Close() error {
	var errs []error
	end := func(p *proc.Child) { errs = append(errs, p.Close()) }
	if c.load != nil {
		end(c.load.Child)
	}
	for _, u := range c.users {
		end(u.Child)
	}
	if c.agent != nil {
		end(c.agent.Child)
	}
	if c.relay != nil {
		end(c.relay.Child)
	}
	if c.device != nil {
		end(c.device)
	}
	return errors.Join(errs...)
}

// Echo has one of the connections go back and forth for d, and says the median in microseconds.
func (c *Crowd) Echo(ctx context.Context, d time.Duration) (float64, error) {
	var a answered
	err := c.load.tell(ctx, orderEcho, d, &a)
	return a.Median, err
}
