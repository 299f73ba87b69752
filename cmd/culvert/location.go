package main

import (
	"github.com/spf13/cobra"

	"culvert/node/client"
	"culvert/node/localapi"
)

func newLocationCmd() *cobra.Command {
	return agentCmd("location", "Show the networks that this machine is in, the default route's first", cobra.NoArgs,
		func(cmd *cobra.Command, _ []string, c *client.Client) error {
			all, err := c.Locations(cmd.Context())
			if err != nil {
				return err
			}
			if err := wantEnrolled(cmd, c, len(all)); err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printAs[[]localapi.Location](cmd.OutOrStdout(), all)
			}
			rows := [][]string{{"INTERFACE", "PREFIX", "GATEWAY", "DOMAIN", "LOCATION ID"}}
			for _, l := range all {
				rows = append(rows, []string{l.Interface, l.Prefix, l.Gateway, l.Domain, l.ID})
			}
			return table(cmd.OutOrStdout(), rows)
		})
}
