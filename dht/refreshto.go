package dht

import "context"

// RefreshMapTo asks for the map like RefreshMap, and the operators where nobody else has one of this epoch, which is known to
// exist: members that have all left the map would go on telling each other that there is nothing newer.
func (c *Client) RefreshMapTo(ctx context.Context, epoch uint64) error {
	m, err := c.RefreshMap(ctx)
	if err == nil && m != nil && m.Epoch() >= epoch {
		return nil
	}
	ctx, leave, err := c.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := c.refresh.enter(ctx); err != nil {
		return err
	}
	defer c.refresh.leave()
	cfg := c.mapConfig()
	cfg.Members, cfg.Operators = c.operators(), nil
	return c.takeMap(ctx, cfg)
}
