package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"culvert/node/client"
	"culvert/node/localapi"
)

func newTunnelsCmd() *cobra.Command {
	var verbose bool
	cmd := agentCmd("tunnels [-v]", "List open tunnels, who opened them, and those served for other nodes", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, c *client.Client) error {
			all, err := c.Tunnels(cmd.Context())
			if err != nil {
				return err
			}
			served, err := c.Served(cmd.Context())
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return tunnelsJSON(cmd.OutOrStdout(), all, served)
			}
			return tunnelsText(cmd.OutOrStdout(), all, served, verbose, time.Now())
		})
	cmd.Long = "tunnels lists the tunnels that were opened through this agent, and those that it serves, or served within the last hour,\n" +
		"for other nodes. With -v it says what was tried for each and why the route in use was taken. With --json it prints one\n" +
		"list of both: their \"end\" is \"user\" here, \"tunnel\" there."
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "say what was tried for each tunnel, one line an attempt")
	return cmd
}

// tunnelsJSON prints the tunnels of both ends in one list, so that a script finds each tunnel wherever it runs.
func tunnelsJSON(w io.Writer, all []client.Tunnel, served []client.Served) error {
	l := []any{}
	for _, t := range all {
		l = append(l, t)
	}
	for _, s := range served {
		l = append(l, s)
	}
	return printAs[[]bothEnds](w, l)
}

// bothEnds is one of localapi.Tunnel and localapi.Served, printed with its fields in their order.
type bothEnds struct{ v any }

// UnmarshalJSON implements json.Unmarshaler.
func (b *bothEnds) UnmarshalJSON(text []byte) error {
	var kind struct {
		End string `json:"end"`
	}
	if err := json.Unmarshal(text, &kind); err != nil {
		return err
	}
	if kind.End == "tunnel" {
		b.v = new(localapi.Served)
	} else {
		b.v = new(localapi.Tunnel)
	}
	return json.Unmarshal(text, b.v)
}

// MarshalJSON implements json.Marshaler.
func (b bothEnds) MarshalJSON() ([]byte, error) { return json.Marshal(b.v) }

func tunnelsText(w io.Writer, all []client.Tunnel, served []client.Served, verbose bool, now time.Time) error {
	if err := table(w, tunnelRows(all, now)); err != nil {
		return err
	}
	if verbose {
		for _, t := range all {
			if _, err := fmt.Fprintf(w, "\n%s", receiptText(t)); err != nil {
				return err
			}
		}
	}
	if len(served) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return table(w, servedRows(served, now))
}

func tunnelRows(all []client.Tunnel, now time.Time) [][]string {
	rows := [][]string{{"ID", "DEVICE", "PORT", "LOCAL ADDRESS", "ROUTE", "STATE", "CONNECTIONS", "IN", "OUT", "OPEN FOR", "LASTING", "BY"}}
	for _, t := range all {
		rows = append(rows, []string{
			t.ID, t.Device + "@" + t.Domain, t.Port, orDash(t.Local), orDash(t.Route), t.State, strconv.Itoa(t.Connections),
			showBytes(t.BytesIn), showBytes(t.BytesOut), showDuration(now.Sub(t.Opened)), yes(t.Persist), openedBy(t.Caller),
		})
	}
	return rows
}

func servedRows(served []client.Served, now time.Time) [][]string {
	rows := [][]string{{"SERVED FOR", "DEVICE", "PORT", "ROUTE", "STATE", "CONNECTIONS", "ENDED", "FAILED", "BYTES", "SINCE", "ERROR"}}
	for _, s := range served {
		device := s.Device
		if device == "" {
			device = short(s.DeviceID)
		}
		rows = append(rows, []string{
			short(s.UserNode), device + "@" + s.Domain, s.Port, s.Route, s.State, strconv.Itoa(s.Connections),
			strconv.FormatInt(s.TotalConnections, 10), strconv.FormatInt(s.Failed, 10), showBytes(s.Bytes),
			showDuration(now.Sub(s.Opened)), orDash(s.Error),
		})
	}
	return rows
}

// receiptText says what was tried for a tunnel and why it goes by the route that it does.
func receiptText(t client.Tunnel) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s@%s port %s: %s\n", t.ID, t.Device, t.Domain, t.Port, routeText(t))
	for _, a := range t.Receipt.Attempts {
		what := "worked"
		switch {
		case a.Error != "":
			what = a.Error
		case a.Shared:
			what = "a link that was there worked"
		}
		by := "node " + short(a.Node)
		if a.Relay != "" {
			by += " relay " + short(a.Relay)
		}
		fmt.Fprintf(&b, "  %-8s %-47s after %-8s took %-8s %s\n", a.Route, by, passed(a.AfterMs), passed(a.TookMs), what)
	}
	if t.Error != "" {
		fmt.Fprintf(&b, "  latest connection that failed: %s\n", t.Error)
	}
	return b.String()
}

func routeText(t client.Tunnel) string {
	races := fmt.Sprintf("%d races", t.Receipt.Races)
	if t.Receipt.Races == 1 {
		races = "1 race"
	}
	if t.Route == "" {
		return "no route now, " + races
	}
	return fmt.Sprintf("%s, the first way after %s, %s", t.Route, passed(t.Receipt.Milliseconds), races)
}

// passed is a span that may be no time at all.
func passed(ms float64) string { return strings.Replace(showMilliseconds(ms), "-", "0 ms", 1) }

func openedBy(c client.Caller) string {
	who := c.User
	if who == "" {
		who = c.UID
	}
	if c.Program == "" {
		return orDash(who)
	}
	return orDash(who) + " (" + c.Program + ")"
}
