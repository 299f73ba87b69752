package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"culvert/node"
	"culvert/node/client"
)

func newLeaveCmd() *cobra.Command {
	var domain string
	cmd := &cobra.Command{
		Use:   "leave [--domain NAME]",
		Short: "End this computer's membership in a domain, and delete its key",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			left, err := leave(cmd, domain)
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), struct {
					Domain string `json:"domain"`
				}{left})
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "left %s\n", left)
			return err
		},
	}
	cmd.Flags().StringVar(&domain, "domain", "", "which one, where there are several")
	return cmd
}

// leave leaves through the running agent, which also withdraws what it has announced, or without one directly.
func leave(cmd *cobra.Command, domain string) (string, error) {
	c, err := client.Dial(cmd.Context(), dataFlag(cmd))
	if err == nil {
		defer c.Close()
		return leaveRunning(cmd, c, domain)
	}
	if !errors.Is(err, client.ErrNoDaemon) {
		return "", err
	}
	dir, err := dataDir(cmd)
	if err != nil {
		return "", err
	}
	return node.Leave(dir, domain)
}

func leaveRunning(cmd *cobra.Command, c *client.Client, domain string) (string, error) {
	s, err := c.Status(cmd.Context())
	if err != nil {
		return "", err
	}
	if err := c.Leave(cmd.Context(), domain); err != nil {
		return "", err
	}
	for _, m := range s.Memberships {
		if domain == "" || domain == m.DomainID {
			return m.Domain, nil
		}
	}
	return domain, nil
}
