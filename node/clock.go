package node

import (
	"context"
	"time"
)

// clockSetting keeps the clock's offset over restarts, so that a machine with a wrong clock is not a stranger each time.
const clockSetting = "node.clock_offset"

func (n *Node) loadClockOffset() time.Duration {
	b, err := n.store.Setting(clockSetting)
	if err != nil || len(b) == 0 {
		return 0
	}
	d, err := time.ParseDuration(string(b))
	if err != nil {
		return 0
	}
	return d
}

func (n *Node) clockLearned(d time.Duration) {
	n.log.Info("clock differs from the operator's", "offset", d)
	n.tasks.start(func(ctx context.Context) {
		if err := n.store.SetSetting(ctx, clockSetting, []byte(d.String())); err != nil {
			n.log.Warn("clock offset not kept", "error", err)
		}
	})
}
