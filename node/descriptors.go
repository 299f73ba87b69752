package node

import (
	"cmp"
	"sync/atomic"
	"time"

	"culvert/node/localapi"
	"culvert/protocol/carrier/descriptors"
)

const (
	// moreDescriptors is what people are told where there are too few.
	moreDescriptors = "LimitNOFILE= in a systemd service, ulimit -n in a shell; or fewer: limits.connections in config.toml"
	// saidAgain is how long is said nothing after that connections are refused.
	saidAgain = time.Minute
	// A splice holds a pipe, whose two descriptors come out of the reserve: an eighth of it at most.
	splicesOf  = 80
	splicesMax = 64
	// halfOpenOf is which part of all descriptors connections may have that have proved nothing yet.
	halfOpenOf  = 5
	halfOpenMax = 4096
)

// openDescriptors finds out how many there may be, and says so where that is less than what the configuration allows.
func (n *Node) openDescriptors() {
	var last atomic.Int64
	n.room = descriptors.New(cmp.Or(n.cfg.Descriptors, descriptors.Limit()), func() {
		was, now := last.Load(), time.Now().UnixNano()
		if (was == 0 || now-was > int64(saidAgain)) && last.CompareAndSwap(was, now) {
			n.log.Warn("connections are refused: hardly any file descriptors are left, and the last fifth is for lookups", "limit", n.room.Limit(), "remedy", moreDescriptors)
		}
	})
	if n.fewDescriptors() {
		n.log.Warn("this process may have few file descriptors", "limit", n.room.Limit(), "connections at most", n.room.Connections(),
			"limits.connections", n.cfg.Settings.Limits.Connections, "remedy", moreDescriptors)
	}
}

// fewDescriptors reports whether there are fewer for connections than are wanted.
func (n *Node) fewDescriptors() bool {
	return n.room.Limit() > 0 && n.room.Connections() < n.cfg.Settings.Limits.Connections
}

// part is a bound that grows with the descriptors there may be.
func (n *Node) part(of, most int) int {
	if limit := n.room.Limit(); limit > 0 {
		return min(max(limit/of, 1), most)
	}
	return most
}

// connections is how many there may be at once.
func (n *Node) connections() int {
	if n.fewDescriptors() {
		return n.room.Connections()
	}
	return n.cfg.Settings.Limits.Connections
}

// openFiles is what people and programs are told of it.
func (n *Node) openFiles() localapi.OpenFiles {
	return localapi.OpenFiles{Limit: n.room.Limit(), Connections: n.connections(), Refused: int64(n.room.Refused()), Few: n.fewDescriptors()}
}
