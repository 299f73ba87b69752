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
	cmd := agentCmd("status", "Show what this agent is, by what it talks, and to whom", cobra.NoArgs,
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
	cmd.Long = "status shows what this agent is, by what its messages travel (udp; tls or websocket where no UDP gets out, through a\n" +
		"proxy if need be), the port that its router has opened for it, and which super-nodes it uses and why: as a home it keeps in\n" +
		"contact with it, so that it can be asked from outside; others serve the domain's records, the nearest and those of the own\n" +
		"domain being asked first, and those that are suspected or busy last. KEEPER says whether it keeps\n" +
		"itself reachable from outside: two agents at a location do, and the others are silent until somebody needs them."
	return cmd
}

func showStatus(w io.Writer, s client.Status, now time.Time) error {
	rows := [][]string{
		{"agent", fmt.Sprintf("culvert %s, process %d, up for %s", s.Version, s.PID, showDuration(now.Sub(s.Started)))},
		{"roles", strings.Join(s.Roles, ", ")},
		{"listens at", strings.Join(s.Listen, ", ")},
		{"tunnels", fmt.Sprintf("%d open", s.Tunnels)},
	}
	if by := showMessages(s); by != "" {
		rows = append(rows, []string{"messages travel by", by})
	}
	if len(s.PortMappings) > 0 {
		rows = append(rows, []string{"port at the router", showOpened(s.PortMappings)})
	}
	if f := s.OpenFiles; f.Few || f.Refused > 0 {
		rows = append(rows, []string{"open files", showFiles(f)})
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
	members := [][]string{{"DOMAIN", "NAME", "STATE", "KEEPER", "CERTIFICATE", "GROUPS", "NODE ID"}}
	supers := [][]string{{"SUPER-NODE OF", "ADDRESS", "ROUND TRIP", "STATE", "USED AS", "NODE ID"}}
	for _, m := range s.Memberships {
		members = append(members, []string{m.Domain, m.Name, m.State, yes(m.Keeper), showExpiry(m.Expires, now), list(m.Groups, "-"), m.NodeID})
		for _, n := range m.SuperNodes {
			supers = append(supers, []string{m.Domain, n.Address, showMilliseconds(n.Milliseconds), n.State, list(n.Reasons, "-"), n.ID})
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

// showMessages says by what messages travel; nothing where nobody could answer.
func showMessages(s client.Status) string {
	m := s.Messages
	switch {
	case m.Carrier == "" && len(s.Memberships) == 0:
		return ""
	case m.Carrier == "":
		return "nothing: nobody answers; see culvert netcheck"
	case m.Address == "":
		return m.Carrier
	case m.Proxy == "":
		return m.Carrier + " to " + m.Address
	}
	return m.Carrier + " to " + m.Address + " through the proxy " + m.Proxy
}

// showOpened names the ports that a router has opened, else the best that came of asking.
func showOpened(l []client.PortMapping) string {
	var opened, offered []string
	for _, p := range l {
		switch p.State {
		case "mapped":
			opened = append(opened, fmt.Sprintf("%s %s by %s", p.External, p.Transport, p.Protocol))
		case "unverified":
			offered = append(offered, p.Protocol)
		}
	}
	switch {
	case len(opened) > 0:
		return strings.Join(opened, ", ")
	case len(offered) > 0:
		return "not reached from outside yet; the router speaks " + strings.Join(offered, ", ")
	}
	return "none; see culvert netcheck"
}

// showFiles says that there are too few descriptors, and what to do.
func showFiles(f client.OpenFiles) string {
	s := fmt.Sprintf("%d allowed, so at most %d connections", f.Limit, f.Connections)
	if f.Refused > 0 {
		s += fmt.Sprintf("; %d refused so far", f.Refused)
	}
	return s + "; raise LimitNOFILE of the service, or ulimit -n"
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
