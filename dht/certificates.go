package dht

import (
	"bytes"
	"sync"
	"time"

	"culvert/protocol"
)

// certificates remembers verified Node records, so that an owner's second put costs one signature check instead of two.
type certificates struct {
	mu   sync.Mutex
	byID map[protocol.ID]*protocol.CertifiedNode
}

const maxCertificates = 4096

func newCertificates() *certificates {
	return &certificates{byID: make(map[protocol.ID]*protocol.CertifiedNode)}
}

// check is Trust.CheckNode with a memory.
func (c *certificates) check(t *protocol.Trust, raw []byte, id protocol.ID, now time.Time) (*protocol.CertifiedNode, error) {
	c.mu.Lock()
	n := c.byID[id]
	c.mu.Unlock()
	if n != nil && bytes.Equal(n.Record, raw) && now.Before(n.Expires) {
		return n, nil
	}
	n, err := t.CheckNode(raw, now)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byID) >= maxCertificates {
		clear(c.byID)
	}
	c.byID[n.ID] = n
	return n, nil
}

// known is a certificate verified earlier and still valid.
func (c *certificates) known(id protocol.ID, now time.Time) (*protocol.CertifiedNode, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.byID[id]
	return n, n != nil && now.Before(n.Expires)
}
