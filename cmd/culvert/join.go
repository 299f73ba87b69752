package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"culvert/node"
	"culvert/node/client"
	"culvert/node/localapi"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

func newJoinCmd() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "join TOKEN [--name NAME]",
		Short: "Enrol this computer in the domain of a token from the operator",
		Long: "join makes a key for this computer and has the operator sign it. It works whether or not the agent is running,\n" +
			"and may be repeated with tokens of other domains.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			token := strings.TrimSpace(args[0])
			if _, err := enrol.ParseToken(token); err != nil {
				return usagef("%v", err)
			}
			if !cmd.Flags().Changed("name") {
				name = node.HostName()
			} else if err := protocol.CheckName(name); err != nil {
				return usagef("--name: %v", err)
			}
			m, running, err := join(cmd, token, name)
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printAs[localapi.Membership](cmd.OutOrStdout(), m)
			}
			return showJoined(cmd, m, running)
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "how this computer is called in the domain (the host name)")
	return cmd
}

// join enrols through the running agent, or without one directly.
func join(cmd *cobra.Command, token, name string) (m client.Membership, running bool, err error) {
	c, err := client.Dial(cmd.Context(), dataFlag(cmd))
	switch {
	case err == nil:
		defer c.Close()
		m, err = c.Join(cmd.Context(), token, name)
		return m, true, err
	case !errors.Is(err, client.ErrNoDaemon):
		return m, false, err
	}
	m, err = joinHere(cmd, token, name)
	return m, false, err
}

func showJoined(cmd *cobra.Command, m client.Membership, running bool) error {
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "enrolled in %s as %s, node %s\n", m.Domain, m.Name, m.NodeID)
	if err == nil && !running {
		_, err = fmt.Fprintln(cmd.ErrOrStderr(), "start the agent with: culvert run")
	}
	return err
}
