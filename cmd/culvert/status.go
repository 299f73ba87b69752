package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"culvert/node/client"
	"culvert/node/localapi"
)

func newStatusCmd() *cobra.Command {
	return agentCmd("status", "Show what this agent is, and whom it talks to", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, c *client.Client) error {
			s, err := c.Status(cmd.Context())
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printAs[localapi.Status](cmd.OutOrStdout(), s)
			}
			return showStatus(cmd.OutOrStdout(), s, time.Now())
		})
}

func showStatus(w io.Writer, s client.Status, now time.Time) error {
	rows := [][]string{
		{"agent", fmt.Sprintf("culvert %s, process %d, up for %s", s.Version, s.PID, showDuration(now.Sub(s.Started)))},
		{"roles", strings.Join(s.Roles, ", ")},
		{"listens at", strings.Join(s.Listen, ", ")},
		{"tunnels", fmt.Sprintf("%d open", s.Tunnels)},
	}
	if s.Socks != "" {
		rows = append(rows, []string{"SOCKS5 at", s.Socks})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if len(s.Memberships) == 0 {
		_, err := fmt.Fprintln(w, "\nIn no domain yet. Ask the operator for a token and run: culvert join TOKEN")
		return err
	}
	members := [][]string{{"DOMAIN", "NAME", "STATE", "CERTIFICATE", "GROUPS", "NODE ID"}}
	supers := [][]string{{"SUPER-NODE OF", "ADDRESS", "ROUND TRIP", "NODE ID"}}
	for _, m := range s.Memberships {
		members = append(members, []string{m.Domain, m.Name, m.State, showExpiry(m.Expires, now), list(m.Groups, "-"), m.NodeID})
		for _, n := range m.SuperNodes {
			supers = append(supers, []string{m.Domain, n.Address, showMilliseconds(n.Milliseconds), n.ID})
		}
	}
	fmt.Fprintln(w)
	if err := table(w, members); err != nil {
		return err
	}
	fmt.Fprintln(w)
	if len(supers) == 1 {
		_, err := fmt.Fprintln(w, "No super-node has answered yet.")
		return err
	}
	return table(w, supers)
}

func showExpiry(expires, now time.Time) string {
	switch left := expires.Sub(now); {
	case expires.IsZero():
		return "-"
	case left <= 0:
		return "expired " + showDuration(-left) + " ago"
	default:
		return "for " + showDuration(left)
	}
}
