package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Groups of commands in the help.
const (
	groupAgent    = "agent"
	groupUse      = "use"
	groupOperator = "operator"
)

func newRootCmd() *cobra.Command {
	root := &cobra.Command{
		Use:   "culvert",
		Short: "Reach a printer, a camera or any other device on somebody's LAN from anywhere",
		Long: "culvert reaches a printer, a camera or any other device on somebody's LAN from anywhere, without network\n" +
			"configuration and without a central server that carries the traffic.\n\n" +
			"Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no agent is running, 4 in no domain.",
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
	}
	root.PersistentFlags().String("data", "", "data directory (CULVERT_DATA; the default depends on the system)")
	root.PersistentFlags().Bool("json", false, "print JSON, errors too")
	root.AddGroup(
		&cobra.Group{ID: groupAgent, Title: "The agent:"},
		&cobra.Group{ID: groupUse, Title: "Devices and tunnels:"},
		&cobra.Group{ID: groupOperator, Title: "The operator:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupAgent, newJoinCmd(), newRunCmd(), newStatusCmd(), newNetcheckCmd(), newLocationCmd(), newLeaveCmd())
	add(groupUse, newDevicesCmd(), newOpenCmd(), newTunnelsCmd(), newCloseCmd())
	operator := newOperatorCmd()
	operator.AddCommand(newOperatorRunCmd())
	add(groupOperator, operator)
	root.AddCommand(newDemoCmd(), newVersionCmd())
	strict(root)
	return root
}

// ran marks an error of a command that was called rightly. Every other error of cobra is one of usage.
type ran struct{ err error }

func (r *ran) Error() string { return r.err.Error() }
func (r *ran) Unwrap() error { return r.err }

// strict makes wrong usage an error everywhere, and tells it apart from what fails later.
func strict(c *cobra.Command) {
	c.DisableFlagsInUseLine = true // Use names them where they matter
	for _, sub := range c.Commands() {
		strict(sub)
	}
	if c.RunE != nil {
		work := c.RunE
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if err := work(cmd, args); err != nil {
				return &ran{err}
			}
			return nil
		}
		return
	}
	if c.Run != nil || !c.HasSubCommands() {
		return
	}
	// A command that only holds others: cobra would print help and call that success.
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(cmd *cobra.Command, args []string) error {
		names := make([]string, 0, len(cmd.Commands()))
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() {
				names = append(names, sub.Name())
			}
		}
		what := "which command?"
		if len(args) > 0 {
			what = fmt.Sprintf("there is no command %q", cmd.CommandPath()+" "+args[0])
		}
		return usagef("%s", what).withHint("one of: %s; see %s --help", strings.Join(names, ", "), cmd.CommandPath())
	}
}
