package main

import (
	"fmt"
	"strings"

	"culvert/operator"
	"culvert/operator/care"
	"culvert/protocol"

	"github.com/spf13/cobra"
)

func newOperatorNodeCmd() *cobra.Command {
	var domain string
	list := &cobra.Command{Use: "list", Short: "List enrolled nodes", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			ns, err := listAll[operator.NodeView](a, "/nodes", domain)
			if err != nil {
				return err
			}
			return showNodes(cmd, ns, ns)
		})
	}}
	list.Flags().StringVar(&domain, "domain", "", "only this domain's")
	revoke := &cobra.Command{Use: "revoke ID", Short: "End a node for good", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		if _, err := protocol.ParseID(args[0]); err != nil {
			return usagef("%v", err).withHint("culvert operator node list shows the IDs")
		}
		return withAdmin(cmd, func(a *adminClient) error {
			var n operator.NodeView
			if err := a.post("/nodes/"+segment(args[0])+"/revoke", nil, &n); err != nil {
				return err
			}
			return showNodes(cmd, n, []operator.NodeView{n})
		})
	}}
	return group("node", "Enrolled nodes", list, revoke)
}

func showNodes(cmd *cobra.Command, v any, ns []operator.NodeView) error {
	if wantJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), v)
	}
	var rows [][]string
	for _, n := range ns {
		state := "until " + n.Expires.Local().Format(timeForm)
		if n.Revoked != nil {
			state = "revoked"
		}
		rows = append(rows, []string{n.Name, n.Domain, strings.Join(n.Groups, ","), state, n.ID.String()})
	}
	return table(cmd.OutOrStdout(), append([][]string{[]string{"NAME", "DOMAIN", "GROUPS", "STATE", "ID"}}, rows...))
}

func newOperatorSuperNodeCmd() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List nodes that offered themselves as super-nodes", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			ns, err := listAll[operator.SuperNodeView](a, "/supernodes", "")
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), ns)
			}
			var rows [][]string
			for _, n := range ns {
				addrs := make([]string, len(n.Addresses))
				for i, p := range n.Addresses {
					addrs[i] = p.String()
				}
				state, score := string(n.State), ""
				if n.Isolated != nil {
					state = "isolated"
				}
				if s := n.Score; s != nil {
					score = fmt.Sprintf("%d of %d", s.Points, care.Isolate)
				}
				rows = append(rows, []string{n.Domain, state, strings.Join(addrs, ","), score, n.Reason, n.ID.String()})
			}
			return table(cmd.OutOrStdout(), append([][]string{[]string{"DOMAIN", "STATE", "ADDRESSES", "POINTS", "REASON", "ID"}}, rows...))
		})
	}}
	judge := func(verb, short string) *cobra.Command {
		return &cobra.Command{Use: verb + " ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd, func(a *adminClient) error {
				return a.finish(cmd, a.post("/supernodes/"+segment(args[0])+"/"+verb, nil, nil))
			})
		}}
	}
	policy := &cobra.Command{
		Use: "policy [open|approved|own]", Short: "Show or switch who may become a super-node", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd, func(a *adminClient) error {
				var v struct {
					Policy string `json:"policy"`
				}
				var err error
				if len(args) == 1 {
					err = a.put("/policy", map[string]string{"policy": args[0]}, &v)
				} else {
					err = a.get("/policy", &v)
				}
				if err != nil {
					return err
				}
				if wantJSON(cmd) {
					return printJSON(cmd.OutOrStdout(), v)
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), v.Policy)
				return err
			})
		},
	}
	return group("supernode", "Super-nodes", list, judge("approve", "Admit a candidate that waits or was barred"),
		judge("bar", "Take a super-node off the map until it is approved"),
		judge("isolate", "Have readers pass a super-node by; it stays under observation"),
		judge("release", "End an isolation"), policy)
}

func newOperatorAuditCmd() *cobra.Command {
	var domain string
	cmd := &cobra.Command{Use: "audit", Short: "Show what was registered, changed, revoked and enrolled, and by whom", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			lines, err := listAll[operator.AuditView](a, "/audit", domain)
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), lines)
			}
			var rows [][]string
			for _, l := range lines {
				rows = append(rows, []string{fmt.Sprint(l.Number), l.Time.Local().Format(timeForm + ":05"), l.Actor, l.Action, l.Domain, l.Subject, l.Detail})
			}
			return table(cmd.OutOrStdout(), append([][]string{[]string{"NO", "TIME", "ACTOR", "ACTION", "DOMAIN", "SUBJECT", "DETAIL"}}, rows...))
		})
	}}
	cmd.Flags().StringVar(&domain, "domain", "", "only this domain's")
	return cmd
}
