package dht

import (
	"bytes"
	"context"
	"sync"

	"culvert/protocol"
)

// certifyTogether is how many certificates are asked for at a time, so that a long list costs few round trips and no flood.
const certifyTogether = 8

// certify fetches the certificates without which an answer's NodeInfo records cannot be proved, from whoever served them: a
// certificate proves itself. It is false where one of the questions had no answer, which says nothing about the record.
func (c *Client) certify(ctx context.Context, t Target, p protocol.Peer, v *protocol.Verified) bool {
	if t.table() != protocol.TableNodeInfo {
		return true
	}
	l, err := t.parse(v.Command, v.Payload)
	if err != nil {
		return true // the machine says what it thinks of this
	}
	var want []protocol.ID
	for _, raw := range l.Records {
		r, err := protocol.ParseRecord(raw)
		if err != nil || !t.belongs(r) {
			return true
		}
		if _, ok := c.certs.known(r.Owner, c.cfg.Now()); !ok {
			want = append(want, r.Owner)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout) // later than this the machine may have ended without the list
	defer cancel()
	got := make([]*protocol.Verified, len(want))
	var wg sync.WaitGroup
	for first := range min(certifyTogether, len(want)) {
		wg.Go(func() {
			for i := first; i < len(want); i += certifyTogether {
				got[i], _ = c.cfg.Caller.Call(ctx, p, protocol.GetNode{ID: want[i]})
			}
		})
	}
	wg.Wait()
	whole := true
	for i, a := range got {
		if a == nil || a.Command == protocol.CmdBusy {
			whole = false
			continue
		}
		c.certified(ctx, p, want[i], a)
	}
	return whole
}

// certified takes in an answer to GetNode. What does not prove itself leaves the owner unknown, and its record unproved.
func (c *Client) certified(ctx context.Context, p protocol.Peer, owner protocol.ID, v *protocol.Verified) {
	n, err := protocol.ParseNode(v.Payload)
	if err != nil || v.Command != protocol.CmdNode {
		return
	}
	if cert, err := protocol.ParseRecord(n.Record); err == nil && c.stranger(cert) {
		c.fetchChain(ctx, p)
	}
	_, _ = c.certs.check(c.cfg.Trust, bytes.Clone(n.Record), owner, c.cfg.Now())
}
