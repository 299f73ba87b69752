package main

import (
	"strings"
	"testing"
	"time"

	"culvert/node/client"
)

func TestTunnelsOfBothEnds(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	node := "0badcafe-" + strings.Repeat("ab", 32)
	all := []client.Tunnel{{
		ID: "t1", Device: "printer", Domain: "acme", Port: "161/udp", Local: "127.0.0.1:40000", Route: "relayed", State: "up",
		Opened: now.Add(-time.Minute), End: "user", Receipt: client.Receipt{Races: 1, Milliseconds: 143.2, Attempts: []client.Attempt{
			{Route: "direct", Node: node, TookMs: 0.05, Error: "no open TCP port at either end"},
			{Route: "relayed", Node: node, Relay: node, AfterMs: 80, TookMs: 63.2},
		}},
	}}
	served := []client.Served{{End: "tunnel", UserNode: node, DeviceID: node, Domain: "acme", Port: "631", Route: "lan", State: "down", Opened: now}}
	var b strings.Builder
	if err := tunnelsText(&b, all, served, true, now); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"t1  printer@acme  161/udp", "t1 printer@acme port 161/udp: relayed, the first way after 143 ms, 1 race",
		"  direct   node 0badcafe-abababab ", "took 0.1 ms   no open TCP port at either end\n",
		"relay 0badcafe-abababab ", "after 80 ms    took 63 ms    worked\n", "SERVED FOR", "0badcafe-abababab@acme  631",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := tunnelsText(&b, all, nil, false, now); err != nil || strings.Contains(b.String(), "SERVED") || strings.Contains(b.String(), "no open TCP port") {
		t.Errorf("%v\n%s", err, b.String())
	}
	b.Reset()
	if err := tunnelsJSON(&b, all, served); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if !strings.HasPrefix(text, `[{"id":"t1","device":"printer"`) || !strings.Contains(text, `,{"end":"tunnel","user_node":"0badcafe-`) ||
		!strings.Contains(text, `"error":"no open TCP port at either end"`) {
		t.Error(text)
	}
	b.Reset()
	if err := tunnelsJSON(&b, nil, nil); err != nil || b.String() != "[]\n" {
		t.Errorf("none: %q, %v", b.String(), err)
	}
}
