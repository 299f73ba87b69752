package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"culvert/node/client"
	"culvert/node/client/api"
	"culvert/node/localapi"
)

func newNetcheckCmd() *cobra.Command {
	cmd := agentCmd("netcheck", "Measure what stands between this machine and the internet, and what would make it better", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, c *client.Client) error {
			n, err := c.Netcheck(cmd.Context())
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printAs[localapi.Netcheck](cmd.OutOrStdout(), n)
			}
			return showNetcheck(cmd.OutOrStdout(), n)
		})
	cmd.Long = "netcheck measures for up to five seconds, by the running agent, what kind of NAT or firewall stands between this machine\n" +
		"and the internet, whether UDP gets out and by what messages travel instead, which ports the router opens, and how each\n" +
		"super-node sees this agent. It says what to expect of each route (lan, direct, mapped, punched, relayed), and what to change\n" +
		"to do better. With --json it prints one object; what cannot be known is \"unknown\"."
	return cmd
}

func showNetcheck(w io.Writer, n client.Netcheck) error {
	carrier := n.Carrier
	if n.Proxy {
		carrier += " through a proxy"
	}
	rows := [][]string{
		{"site", n.Summary},
		{"UDP", n.UDP},
		{"messages travel by", orDash(carrier)},
		{"IPv4", showFamily(n.Ipv4)},
		{"IPv6", showFamily(n.Ipv6)},
		{"carrier-grade NAT", n.CarrierNat},
		{"keep-alive", showKeepalive(n)},
	}
	if len(n.PortMappings) == 0 {
		rows = append(rows, []string{"port mapping", "none"})
	}
	for _, p := range n.PortMappings {
		rows = append(rows, []string{"port mapping", showMapping(p)})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	fmt.Fprintln(w)
	servers := [][]string{{"SERVER", "ROUND TRIP", "SEES THIS AGENT AT"}}
	for _, s := range n.Servers {
		servers = append(servers, []string{s.Address, showMilliseconds(s.Milliseconds), orDash(s.Mapped)})
	}
	if err := table(w, servers); err != nil {
		return err
	}
	fmt.Fprintln(w)
	routes := [][]string{{"ROUTE", "EXPECT", "WHY"}}
	for _, r := range n.Routes {
		routes = append(routes, []string{r.Route, r.Expect, r.Why})
	}
	if err := table(w, routes); err != nil {
		return err
	}
	if len(n.Advice) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "\nTo do better:\n  %s\n", strings.Join(n.Advice, "\n  "))
	return err
}

// showFamily is one family in a line: what it is seen as, and the NAT's behaviour where there is one.
func showFamily(f api.NetcheckFamily) string {
	if !f.Works {
		if len(f.Addresses) == 0 {
			return "no address"
		}
		return "no answer"
	}
	parts := []string{"works"}
	if m := f.Mapped; m != "" {
		parts[0] = "seen as " + m
	}
	plain := func(s string) string { return strings.ReplaceAll(s, "_", " ") }
	if f.Nat == "no" {
		parts = append(parts, "no NAT")
	} else {
		mapping := plain(f.Mapping)
		if f.Mapping == "sequential" {
			mapping = fmt.Sprintf("sequential by %d", f.Step)
		}
		parts = append(parts, "mapping "+mapping)
	}
	parts = append(parts, "filtering "+plain(f.Filtering))
	if f.Nat != "no" {
		parts = append(parts, "hairpin "+f.Hairpin)
	}
	return strings.Join(parts, "; ")
}

func showKeepalive(n client.Netcheck) string {
	d := time.Duration(n.KeepaliveSeconds * float64(time.Second)).Round(time.Second)
	if n.KeepaliveMeasured {
		return fmt.Sprintf("every %s, measured", showDuration(d))
	}
	return fmt.Sprintf("every %s, not measured", showDuration(d))
}

func showMapping(p api.PortMapping) string {
	s := fmt.Sprintf("%s, %s", p.Protocol, p.Transport)
	if e := p.External; e != "" {
		s += " at " + e
	}
	s += ": " + p.State
	if r := p.Reason; r != "" {
		s += ", " + r
	}
	return s
}
