package main

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"culvert/node/client"
	"culvert/node/localapi"
)

func newTunnelsCmd() *cobra.Command {
	return agentCmd("tunnels", "List open tunnels, and who opened them", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, c *client.Client) error {
			all, err := c.Tunnels(cmd.Context())
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printAs[[]localapi.Tunnel](cmd.OutOrStdout(), all)
			}
			return table(cmd.OutOrStdout(), tunnelRows(all, time.Now()))
		})
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
