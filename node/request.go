package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"culvert/protocol"
	"culvert/tunnel"
)

const (
	// A home answers within this time or counts as bad.
	forwardWait = 900 * time.Millisecond
	// A forwarded request crosses four hops; after this long without an answer it is tried by another home as well, and then by
	// all of them again: a tunnel-node whose NAT has moved is in contact again within seconds.
	nextHome   = 450 * time.Millisecond
	homeRounds = 4
)

// Request implements tunnel.Signaler. The tunnel-node's homes are asked one shortly after the other, each with a fresh request
// of the same token, while answers to all of them count. Where none of them reaches it, as when all were started anew, it is asked
// where it says that it can be dialled.
func (s signaler) Request(ctx context.Context, local protocol.ID, to tunnel.Target, req protocol.TunnelRequest) (protocol.TunnelOpened, protocol.Hash, error) {
	m, ok := s.n.member(local.Domain())
	if !ok {
		return protocol.TunnelOpened{}, protocol.Hash{}, tunnel.ErrNoMembership
	}
	homes, failure := s.homes(m, to)
	payload, err := protocol.AppendPayload(nil, req)
	if err != nil {
		return protocol.TunnelOpened{}, protocol.Hash{}, err
	}
	target := protocol.Peer{ID: to.Node.ID, Signing: to.Node.Signing, Sealing: to.Node.Sealing}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan forwardedAnswer, homeRounds*len(homes)+1)
	directly := make(chan error, 1)
	for round := range homeRounds {
		began := time.Now()
		for _, home := range homes {
			raw, err := s.n.ep.SealSigned(s.n.now(), local, target, req.Command(), payload)
			if err != nil {
				return protocol.TunnelOpened{}, protocol.Hash{}, err
			}
			defer s.n.asking.add(sha256.Sum256(raw), to.Node.ID, answers)()
			failed := make(chan error, 1)
			if !s.n.tasks.start(func(context.Context) {
				if err := s.forward(ctx, m, home, to.Node.ID, raw); err != nil {
					failed <- err
				}
			}) {
				return protocol.TunnelOpened{}, protocol.Hash{}, errClosed
			}
			if a, ok, err := awaitAnswer(ctx, answers, failed, nextHome); ok {
				return a.opened, a.hash, nil
			} else if err != nil {
				failure = err
			} else {
				failure = fmt.Errorf("the tunnel-node did not answer by way of %s", home.ID.Short())
			}
		}
		if round == 0 && !s.n.tasks.start(func(context.Context) {
			opened, err := s.ask(ctx, m, to, req)
			if err == nil {
				answers <- forwardedAnswer{to.Node.ID, opened, opened.Request}
			}
			directly <- err
		}) {
			return protocol.TunnelOpened{}, protocol.Hash{}, errClosed
		}
		// All homes may have said at once that they do not know it, while it is on its way to them.
		if a, ok, err := awaitAnswer(ctx, answers, nil, nextHome-time.Since(began)); ok || err != nil {
			return a.opened, a.hash, err
		}
	}
	select {
	case <-directly: // it may have needed longer
	case <-ctx.Done():
	}
	select {
	case a := <-answers:
		return a.opened, a.hash, nil
	default:
		return protocol.TunnelOpened{}, protocol.Hash{}, failure
	}
}

// awaitAnswer waits for an answer, a failure, or for so long.
func awaitAnswer(ctx context.Context, answers <-chan forwardedAnswer, failed <-chan error, d time.Duration) (a forwardedAnswer, ok bool, err error) {
	wait := time.NewTimer(max(d, 0))
	defer wait.Stop()
	select {
	case a := <-answers:
		return a, true, nil
	case err := <-failed:
		return a, false, err
	case <-ctx.Done():
		return a, false, ctx.Err()
	case <-wait.C:
		return a, false, nil
	}
}
