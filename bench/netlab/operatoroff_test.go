//go:build linux && netlab

package netlab

import (
	"testing"
	"time"

	"culvert/bench/netlab/device"
)

const operatorAway = 5 * time.Minute

// The operator is switched off and stays off: nodes go on looking up, open tunnels go on, and new ones open, each time.
func TestOperatorOff(t *testing.T) {
	away := 15 * time.Second
	if full() {
		away = operatorAway
	}
	w := newWorld(t, "")
	serve(t, device.ServeEcho, w.printer, device.JetDirectPort)
	w.start(t)
	open, err := w.homeDesk.AwaitOpen(w.within(t, settle), "printer", device.JetDirectPort)
	if err != nil {
		t.Fatal(err)
	}
	old, err := converse(w.within(t, settle), open)
	if err != nil {
		t.Fatal(err)
	}
	w.operator.Kill()
	lookups, tunnels := 0, 0
	for began := time.Now(); time.Since(began) < away; {
		if err := w.homeDesk.Lookup(w.within(t, lookupAfterKill), "printer"); err != nil {
			t.Fatalf("lookup %d, %s without the operator: %v", lookups, time.Since(began).Round(time.Second), err)
		}
		lookups++
		for _, flags := range [][]string{nil, {"--route", "relayed"}} {
			fresh, err := w.homeDesk.Open(w.within(t, tunnelAfterKill), "printer", device.JetDirectPort, flags...)
			if err != nil {
				t.Fatalf("tunnel %d, %s without the operator: %v", tunnels, time.Since(began).Round(time.Second), err)
			}
			talk, err := converse(w.within(t, tunnelAfterKill), fresh)
			if err != nil {
				t.Fatalf("through tunnel %d: %v", tunnels, err)
			}
			if err := talk.close(); err != nil {
				t.Error(err)
			}
			if err := w.homeDesk.Close(w.within(t, settle), fresh); err != nil {
				t.Error(err)
			}
			tunnels++
		}
	}
	if err := old.close(); err != nil {
		t.Errorf("the connection that was open all the time: %v", err)
	}
	t.Logf("%s without the operator: %d lookups and %d new tunnels, none failed", away, lookups, tunnels)
}
