//go:build linux

package matrix

import (
	"errors"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"culvert/bench/netlab/lab"
)

// hearing notes from which addresses the super-nodes get packets.
type hearing struct {
	captures []*lab.Capture

	mu   sync.Mutex
	seen map[netip.Addr]map[int]bool // by address, which super-nodes
}

func newHearing() *hearing { return &hearing{seen: make(map[netip.Addr]map[int]bool)} }

// listen adds a super-node.
func (h *hearing) listen(at *lab.Host) error {
	number := len(h.captures)
	own := []netip.Addr{at.Addr(), at.Addr6()}
	c, err := at.Capture("eth0", func(p lab.Packet) bool {
		if p.Protocol == unix.IPPROTO_UDP || p.TCP() && len(p.Payload) > 0 {
			if from := p.From.Addr(); from != own[0] && from != own[1] {
				h.note(from, number)
			}
		}
		return false
	})
	if err != nil {
		return err
	}
	h.captures = append(h.captures, c)
	return nil
}

func (h *hearing) note(from netip.Addr, number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen[from] == nil {
		h.seen[from] = make(map[int]bool)
	}
	h.seen[from][number] = true
}

func (h *hearing) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.seen)
}

// from tells whether a place's agent is heard by both of its home super-nodes,
// or by one where it has to take a detour by TCP.
func (h *hearing) from(p *place) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	want := 1
	if p.kind.Traits().UDP {
		want = 2
	}
	by := make(map[int]bool)
	for _, a := range p.seenAs {
		for n := range h.seen[a] {
			by[n] = true
		}
	}
	return len(by) >= want
}

func (h *hearing) stop() error {
	var errs []error
	for _, c := range h.captures {
		// What the kernel dropped is of no interest here.
		if _, err := c.Stop(); err != nil && !errors.Is(err, lab.ErrDropped) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
