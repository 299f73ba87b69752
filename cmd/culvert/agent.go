package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"culvert/node"
	"culvert/node/client"
	"culvert/node/config"
)

// dataFlag is what --data says, wantJSON what --json says.
func dataFlag(cmd *cobra.Command) string {
	dir, _ := cmd.Flags().GetString("data")
	return dir
}

func wantJSON(cmd *cobra.Command) bool {
	asked, _ := cmd.Flags().GetBool("json")
	return asked
}

// dataDir is the data directory that this command works on.
func dataDir(cmd *cobra.Command) (string, error) { return config.DataDir(dataFlag(cmd), os.Getenv) }

// dialAgent connects to the running agent, and says what to do where there is none.
func dialAgent(cmd *cobra.Command) (*client.Client, error) {
	c, err := client.Dial(cmd.Context(), dataFlag(cmd))
	if !errors.Is(err, client.ErrNoDaemon) {
		return c, err
	}
	dir, err := dataDir(cmd)
	if err != nil {
		return nil, err
	}
	f := &failure{Message: fmt.Sprintf("no agent is running in %s", dir), Code: codeNoDaemon, exit: exitNoDaemon}
	if n, err := node.Memberships(dir); err == nil && n == 0 {
		return nil, f.withHint("enrol with: culvert join TOKEN\nthen start it with: culvert run")
	}
	return nil, f.withHint("start it with: culvert run")
}

// agentCmd is a command that asks the running agent: ask gets a client that is closed afterwards.
func agentCmd(use, short string, args cobra.PositionalArgs, ask func(cmd *cobra.Command, args []string, c *client.Client) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := dialAgent(cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			return ask(cmd, args, c)
		},
	}
}

// wantEnrolled explains an empty answer: an agent in no domain has nothing to list.
func wantEnrolled(cmd *cobra.Command, c *client.Client, listed int) error {
	if listed > 0 {
		return nil
	}
	s, err := c.Status(cmd.Context())
	if err == nil && len(s.Memberships) == 0 {
		return notEnrolled()
	}
	return err
}
