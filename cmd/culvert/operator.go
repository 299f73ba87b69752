package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"culvert/node/config"
	"culvert/operator"

	"github.com/spf13/cobra"
)

// newOperatorCmd is `culvert operator …` but for run.
func newOperatorCmd() *cobra.Command {
	return group("operator", "Run the trusted party: domains, tokens, devices, nodes",
		newOperatorInitCmd(), newOperatorDomainCmd(), newOperatorTokenCmd(), newOperatorDeviceCmd(), newOperatorNodeCmd(),
		newOperatorSuperNodeCmd(), newOperatorPartitionsCmd(), newOperatorAPIKeyCmd(), newOperatorAuditCmd(), newOperatorBackupCmd(),
		newOperatorRestoreCmd(), newOperatorAddCmd(), newOperatorRotateCmd(), newOperatorTakeoverCmd(), newOperatorRetireCmd(), newOperatorListCmd())
}

func newOperatorInitCmd() *cobra.Command {
	var opt operator.InitOptions
	cmd := &cobra.Command{
		Use:   "init [--name NAME] --advertise HOST[:HTTPSPORT]",
		Short: "Make root key, operator key and database",
		Long: "init makes an operator in the data directory. HOST is the name or address under which agents reach it, for ever:\n" +
			"it stands in every join token. Take keys/root.key offline afterwards; it is needed again within half a year.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if opt.Advertise == "" {
				return usagef("--advertise HOST[:HTTPSPORT] is missing: under which name or address do agents reach this operator?")
			}
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			if err := config.MakeDataDir(dir); err != nil {
				return err
			}
			s, err := operator.Init(cmd.Context(), dir, opt)
			if errors.Is(err, operator.ErrInvalid) {
				return usagef("%v", err)
			}
			if err != nil {
				return err
			}
			for _, w := range s.Warnings {
				note(cmd, "culvert: warning: %s", w)
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), s)
			}
			note(cmd, "Next: culvert operator domain add NAME, culvert operator token create --domain NAME, culvert operator run")
			return table(cmd.OutOrStdout(), [][]string{{"OPERATOR", "ID", "ROOT", "HTTPS", "EXPIRES"},
				{s.Name, s.ID.String(), s.Root, s.HTTPS, s.Expires.Format(timeForm)}})
		},
	}
	cmd.Flags().StringVar(&opt.Name, "name", "", "name of the operator, for people")
	cmd.Flags().StringVar(&opt.Advertise, "advertise", "", "`HOST[:HTTPSPORT]` under which agents reach this operator")
	return cmd
}

const timeForm = "2006-01-02 15:04"

// group is a command that only holds others.
func group(use, short string, sub ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short}
	cmd.AddCommand(sub...)
	return cmd
}

// note tells people something beside the data.
func note(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...)
}

func newOperatorDomainCmd() *cobra.Command {
	change := func(use, short string, body map[string]any) *cobra.Command {
		return &cobra.Command{Use: use + " NAME", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
			return withAdmin(cmd, func(a *adminClient) error {
				var d operator.DomainView
				if err := a.patch("/domains/"+segment(args[0]), body, &d); err != nil {
					return err
				}
				return showDomains(cmd, d, []operator.DomainView{d})
			})
		}}
	}
	add := &cobra.Command{Use: "add NAME", Short: "Register a domain", Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			var d operator.DomainView
			if err := a.post("/domains", map[string]any{"name": args[0]}, &d); err != nil {
				return err
			}
			return showDomains(cmd, d, []operator.DomainView{d})
		})
	}}
	list := &cobra.Command{Use: "list", Short: "List domains", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			ds, err := listAll[operator.DomainView](a, "/domains", "")
			if err != nil {
				return err
			}
			return showDomains(cmd, ds, ds)
		})
	}}
	return group("domain", "Domains: one for each customer organisation", add, list,
		change("ban", "Refuse all nodes of a domain", map[string]any{"banned": true}),
		change("unban", "Let a banned domain in again", map[string]any{"banned": false}),
		change("own", "Mark a domain as the operator's own: its super-nodes are under no customer's limit, and meet the policy own", map[string]any{"own": true}),
		change("disown", "Take that mark away", map[string]any{"own": false}))
}

func showDomains(cmd *cobra.Command, v any, ds []operator.DomainView) error {
	if wantJSON(cmd) {
		return printJSON(cmd.OutOrStdout(), v)
	}
	var rows [][]string
	for _, d := range ds {
		rows = append(rows, []string{d.Name, d.Number, yes(d.Banned), yes(d.Own), d.Created.Local().Format(timeForm)})
	}
	return table(cmd.OutOrStdout(), append([][]string{[]string{"NAME", "NUMBER", "BANNED", "OWN", "CREATED"}}, rows...))
}

func newOperatorTokenCmd() *cobra.Command {
	var spec operator.TokenSpec
	create := &cobra.Command{
		Use: "create --domain NAME", Short: "Make a join token; it alone is on stdout", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if spec.Domain == "" {
				return usagef("--domain NAME is missing: a token admits to one domain")
			}
			if spec.Uses < 1 {
				return usagef("--uses %d: at least 1", spec.Uses)
			}
			return withAdmin(cmd, func(a *adminClient) error {
				var t operator.TokenView
				if err := a.post("/tokens", spec, &t); err != nil {
					return err
				}
				if wantJSON(cmd) {
					return printJSON(cmd.OutOrStdout(), t)
				}
				note(cmd, "Good for %d nodes of %s until %s. On the node: culvert join TOKEN", t.Uses, t.Domain, t.Expires.Local().Format(timeForm))
				_, err := fmt.Fprintln(cmd.OutOrStdout(), t.Token)
				return err
			})
		},
	}
	create.Flags().StringVar(&spec.Domain, "domain", "", "`name` of the domain")
	create.Flags().StringSliceVar(&spec.Groups, "group", nil, "`groups` of the nodes that join with it")
	create.Flags().IntVar(&spec.Uses, "uses", 1, "how many nodes may join with it")
	create.Flags().StringVar(&spec.TTL, "ttl", "24h", "how long it is good")
	var domain string
	list := &cobra.Command{Use: "list", Short: "List tokens, without their secrets", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			ts, err := listAll[operator.TokenView](a, "/tokens", domain)
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), ts)
			}
			var rows [][]string
			for _, t := range ts {
				rows = append(rows, []string{t.ID, t.Domain, strings.Join(t.Groups, ","), strconv.Itoa(t.Left) + "/" + strconv.Itoa(t.Uses), t.State, t.Expires.Local().Format(timeForm), t.By})
			}
			return table(cmd.OutOrStdout(), append([][]string{[]string{"ID", "DOMAIN", "GROUPS", "LEFT", "STATE", "EXPIRES", "BY"}}, rows...))
		})
	}}
	list.Flags().StringVar(&domain, "domain", "", "only this domain's")
	return group("token", "Join tokens", create, list, deleteCmd("tokens", "End a token before its time"))
}

func deleteCmd(what, short string) *cobra.Command {
	return &cobra.Command{Use: "delete ID", Short: short, Args: cobra.ExactArgs(1), RunE: func(cmd *cobra.Command, args []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			return a.finish(cmd, a.delete("/"+what+"/"+segment(args[0])))
		})
	}}
}

func newOperatorAPIKeyCmd() *cobra.Command {
	var domain string
	create := &cobra.Command{
		Use: "create [--domain NAME]", Short: "Make a key for the admin HTTP API; it alone is on stdout", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdmin(cmd, func(a *adminClient) error {
				var k operator.APIKeyView
				if err := a.post("/apikeys", map[string]any{"domain": domain}, &k); err != nil {
					return err
				}
				if wantJSON(cmd) {
					return printJSON(cmd.OutOrStdout(), k)
				}
				_, err := fmt.Fprintln(cmd.OutOrStdout(), k.Key)
				return err
			})
		},
	}
	create.Flags().StringVar(&domain, "domain", "", "only for this domain; without it for all")
	list := &cobra.Command{Use: "list", Short: "List API keys, without their secrets", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			ks, err := listAll[operator.APIKeyView](a, "/apikeys", "")
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), ks)
			}
			var rows [][]string
			for _, k := range ks {
				rows = append(rows, []string{k.ID, k.Domain, k.Created.Local().Format(timeForm), k.By})
			}
			return table(cmd.OutOrStdout(), append([][]string{[]string{"ID", "DOMAIN", "CREATED", "BY"}}, rows...))
		})
	}}
	return group("apikey", "Keys of the admin HTTP API", create, list, deleteCmd("apikeys", "End an API key"))
}

// openFile is os.Open, with - for standard input.
func openFile(cmd *cobra.Command, name string) (*os.File, error) {
	if name == "-" {
		if f, ok := cmd.InOrStdin().(*os.File); ok {
			return f, nil
		}
	}
	return os.Open(name)
}
