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
	t := Target{Kind: FindMap}
	if m := c.Map(); m != nil {
		t.Since = m.Epoch()
	}
	l := NewLookup(LookupConfig{
		Target: t, Members: c.operators(), Own: c.cfg.Self.Domain(), Timeout: c.cfg.Timeout, Rand: c.seed(), Scores: c.cfg.Scores,
		Check: c.check, NoRefresh: true,
	})
	if err := c.drive(ctx, l, t.Key, nil); err != nil {
		return err
	}
	if m := l.Map(); m != nil {
		c.SetMap(m)
	}
	_, err = l.Result()
	return err
}
