package tunnel

import "sync/atomic"

// counters say what became of what came from outside.
type counters struct {
	opened, failed            atomic.Uint64 // tunnels of this node's users
	races, rerouted, improved atomic.Uint64
	requests, requestsRefused atomic.Uint64
	linksIn, linksRefused     atomic.Uint64
	bulkIn, bulkRefused       atomic.Uint64
	flowsIn, flowsRefused     atomic.Uint64
	introductionsFailed       atomic.Uint64
}

// Stats counts what happened by name.
func (m *Manager) Stats() map[string]uint64 {
	c := &m.counts
	s := map[string]uint64{
		"tunnels opened": c.opened.Load(), "tunnels failed": c.failed.Load(),
		"races": c.races.Load(), "re-routed": c.rerouted.Load(), "better routes": c.improved.Load(),
		"requests": c.requests.Load(), "requests refused": c.requestsRefused.Load(),
		"links taken": c.linksIn.Load(), "links refused": c.linksRefused.Load(),
		"bulk taken": c.bulkIn.Load(), "bulk refused": c.bulkRefused.Load(),
		"flows served": c.flowsIn.Load(), "flows refused": c.flowsRefused.Load(),
		"introductions failed": c.introductionsFailed.Load(),
	}
	m.mu.Lock()
	s["links now"], s["tunnels now"], s["requests now"] = uint64(len(m.links)), uint64(len(m.tunnels)), uint64(len(m.expected))
	m.mu.Unlock()
	return s
}
