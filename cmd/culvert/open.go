package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"culvert/node/client"
	"culvert/node/config"
	"culvert/node/localapi"
)

func newOpenCmd() *cobra.Command {
	var r client.OpenRequest
	cmd := &cobra.Command{
		Use:   "open DEVICE[@DOMAIN] PORT [--route NAME] [--local ADDR] [--persist]",
		Short: "Open a tunnel to a device's port, and print the local address to connect to",
		Long: "open asks the agent for a tunnel and returns when the device has answered. It prints a local address: any program may\n" +
			"connect to it, as often as it likes, until `culvert close ID`. PORT is a number, or a number and /udp: then programs send\n" +
			"datagrams to the address, and open returns when the agent beside the device has agreed, as nothing answers for such a port.\n\n" +
			"All routes are tried side by side and the best that works is used: lan, direct (an open port at either end), mapped (a port\n" +
			"that a router opened), punched (UDP through both routers), relayed (by a super-node). culvert tunnels -v says why.",
		Example: "  culvert open printer-3 631\n  culvert open printer-3@acme 9100 --local 127.0.0.1:9100 --persist\n  culvert open meter-2 161/udp",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			port, err := config.ParsePort(args[1])
			if err != nil {
				return usagef("%v", err)
			}
			if r.Route != "" && !slices.Contains(config.RouteNames(), r.Route) {
				return usagef("there is no route %.40q", r.Route).withHint("--route is one of %s", strings.Join(config.RouteNames(), ", "))
			}
			r.Device, r.Port = args[0], port.String()
			return open(cmd, r)
		},
	}
	cmd.Flags().StringVar(&r.Route, "route", "", "only this route: "+strings.Join(config.RouteNames(), ", "))
	cmd.Flags().StringVar(&r.Local, "local", "", "listen at this loopback address instead of any free port, e.g. 127.0.0.1:9100")
	cmd.Flags().BoolVar(&r.Persist, "persist", false, "keep the tunnel and its local port over restarts, until it is closed")
	return cmd
}

func open(cmd *cobra.Command, r client.OpenRequest) error {
	c, err := dialAgent(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	t, err := c.Open(cmd.Context(), r)
	if err != nil {
		return err
	}
	if wantJSON(cmd) {
		return printAs[localapi.Tunnel](cmd.OutOrStdout(), t)
	}
	// The address alone goes to stdout, so that it can be used in another command.
	fmt.Fprintf(cmd.ErrOrStderr(), "%s port %s by route %s in %s; ends with: culvert close %s\n",
		t.Device+"@"+t.Domain, t.Port, t.Route, showMilliseconds(t.Milliseconds), t.ID)
	_, err = fmt.Fprintln(cmd.OutOrStdout(), t.Local)
	return err
}
