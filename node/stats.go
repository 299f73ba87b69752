package node

import (
	"encoding/json"
	"maps"
	"net/http"
)

// Stats are this node's counters by part and reason: what was dropped in silence, refused, stored, relayed. They are shown by
// the local API at GET /v1/counters.
func (n *Node) Stats() map[string]map[string]uint64 {
	out := map[string]map[string]uint64{
		"messages": n.ep.Stats(), "dispatch": n.drops.snapshot(), "streams": n.tcp.Stats(),
		"tunnels": n.tunnels.Stats(), "relay": n.relay.Stats(), "udp": n.conn.Stats(), "quic": n.lane.Stats(), "punch": n.punchStats(),
		"carriers": n.mux.Stats(),
	}
	if s := n.serving.Load(); s != nil {
		out["records"] = s.server.Stats()
	}
	for _, m := range out {
		maps.DeleteFunc(m, func(_ string, v uint64) bool { return v == 0 })
	}
	return out
}

func (n *Node) serveCounters(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// A client that hung up is its own affair.
	_ = json.NewEncoder(w).Encode(n.Stats())
}
