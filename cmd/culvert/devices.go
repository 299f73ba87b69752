package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"culvert/node/client"
	"culvert/node/localapi"
)

func newDevicesCmd() *cobra.Command {
	var q client.DeviceQuery
	cmd := agentCmd("devices [--refresh] [--domain NAME]", "List the devices that are registered in this agent's domains", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, c *client.Client) error {
			all, err := c.Devices(cmd.Context(), q)
			if err != nil {
				return err
			}
			if err := wantEnrolled(cmd, c, len(all)); err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printAs[[]localapi.Device](cmd.OutOrStdout(), all)
			}
			rows := [][]string{{"DEVICE", "DOMAIN", "PORTS", "REACHED BY", "HERE", "TUNNEL-NODES", "FOR GROUPS"}}
			for _, d := range all {
				rows = append(rows, []string{
					d.Name, d.Domain, list(d.Ports, "-"), reachedBy(d), yes(d.Here), strconv.Itoa(d.TunnelNodes), list(d.Groups, "all"),
				})
			}
			return table(cmd.OutOrStdout(), rows)
		})
	cmd.Flags().BoolVar(&q.Refresh, "refresh", false, "ask the super-nodes instead of answering from what is remembered")
	cmd.Flags().StringVar(&q.Domain, "domain", "", "only those of this domain")
	return cmd
}

// reachedBy is how a tunnel-node finds the device.
func reachedBy(d client.Device) string {
	switch {
	case d.Node != "":
		return "on its node"
	case d.Address != "":
		return d.Address
	}
	return orDash(d.MAC)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
