package sqlite

import (
	"context"

	"culvert/dht"
	"culvert/dht/index"
	"culvert/protocol"
)

// Discard implements dht.Store.
func (s *Store) Discard(ctx context.Context, t protocol.Table, records []dht.Held) (int, error) {
	var gone []index.Ref
	err := s.do(ctx, &request{
		work: func(g *group) error {
			gone = gone[:0]
			for _, h := range records {
				r, ok := g.index.Held(t, h)
				if _, staged := g.staged[stagedKey{t, h.Owner}]; !ok || staged {
					continue // replaced since, perhaps within this very group
				}
				mark := r
				mark.Version = h.Version.Before()
				if err := g.expire(mark); err != nil {
					return err
				}
				gone = append(gone, r)
			}
			return nil
		},
		applied: func(x *index.Index) {
			for _, r := range gone {
				x.Remove(r.Table, r.Owner, r.Version)
			}
		},
	})
	if err != nil {
		return 0, err // gone is the writer's: it may still be at it when the caller no longer waits
	}
	return len(gone), nil
}
