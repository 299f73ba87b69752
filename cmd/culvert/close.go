package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"culvert/node/client"
)

func newCloseCmd() *cobra.Command {
	return agentCmd("close ID", "Close a tunnel, its connections and its persistence", cobra.ExactArgs(1),
		func(cmd *cobra.Command, args []string, c *client.Client) error {
			if err := c.CloseTunnel(cmd.Context(), args[0]); err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), struct {
					ID string `json:"id"`
				}{args[0]})
			}
			_, err := fmt.Fprintf(cmd.ErrOrStderr(), "tunnel %s is closed\n", args[0])
			return err
		})
}
