package dht

import (
	"bytes"
	"context"

	"culvert/protocol"
)

// maxChainPages bounds how much of a chain one peer may make a reader fetch.
const maxChainPages = 8

// meet fetches the operator chain from whoever served records of an operator that this reader does not know: it has been added
// since. The chain proves itself, and so the lookup goes on with this very answer.
func (c *Client) meet(ctx context.Context, t Target, p protocol.Peer, v *protocol.Verified) {
	l, err := t.parse(v.Command, v.Payload)
	if err != nil {
		return
	}
	for _, raw := range l.Records {
		if r, err := protocol.ParseRecord(raw); err == nil && c.stranger(r) {
			c.fetchChain(ctx, p)
			return
		}
	}
}

// stranger reports whether an operator signed r that the chain does not have.
func (c *Client) stranger(r *protocol.Record) bool {
	if r.Table == protocol.TableOperatorNode || r.Signer.Domain() != protocol.OperatorDomain {
		return false
	}
	_, known := c.cfg.Trust.Operator(r.Signer)
	return !known
}

func (c *Client) fetchChain(ctx context.Context, p protocol.Peer) {
	var q protocol.GetOperatorNodes
	for range maxChainPages {
		v, err := c.cfg.Caller.Call(ctx, p, q)
		if err != nil || v.Command != protocol.CmdOperatorNodes {
			return
		}
		l, err := protocol.ParseRecordList(v.Payload)
		if err != nil {
			return
		}
		for _, raw := range l.Records {
			// What the root does not vouch for leaves its signer unknown, and the answer unproved.
			_ = c.cfg.Trust.AddOperator(bytes.Clone(raw), c.cfg.RootKey, c.cfg.Now())
		}
		if l.Next.Compare(q.After) <= 0 {
			return
		}
		q.After = l.Next
	}
}
