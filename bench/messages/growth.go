package messages

import (
	"context"
	"time"

	"culvert/bench/measure"
)

// PeersGrowth is how round trips a second change with the number of peers, up to most; all their sessions are open.
func PeersGrowth(most int) measure.Growth {
	return measure.Growth{
		Title: "round trips from many peers", X: "peers", Sizes: measure.Decades(1, most), Together: true,
		Notes: "each with a session of its own, asking in turn; 64 requests under way",
		At: func(ctx context.Context, size int) ([]measure.GrowthCell, func() error, error) {
			b, err := Start(ctx, Size{Peers: size})
			if err != nil {
				return nil, nil, err
			}
			var l []measure.GrowthCell
			for _, c := range [][2]string{{sealedMany, "bare AES-256-GCM echo, recvmmsg/sendmmsg"}, {sealedOurs, "bare AES-256-GCM echo"}, {pingMany, "culvert Ping in sessions"}} {
				l = append(l, measure.GrowthCell{Cell: measure.Cell{Name: c[1], Unit: "/s", Run: func(ctx context.Context, d time.Duration) (measure.Sample, error) {
					return drive(ctx, b.conns[c[0]], b.askers[c[0]], Window, d)
				}}})
			}
			return l, b.Close, nil
		},
	}
}
