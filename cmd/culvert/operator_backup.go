package main

import (
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"culvert/node/config"
	"culvert/operator"

	"github.com/spf13/cobra"
)

func newOperatorBackupCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write everything that makes this operator to a new file",
		Long: "backup copies the registry and the keys to FILE, consistently, whether the operator runs or not. FILE holds secret keys:\n" +
			"it has mode 0600, and belongs where only you can read it. It never overwrites. `culvert operator restore` reads it.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			info, err := operator.Backup(cmd.Context(), dir, args[0], time.Now())
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), info)
			}
			noteBackup(cmd, args[0], info)
			return nil
		},
	}
}

func noteBackup(cmd *cobra.Command, file string, info operator.BackupInfo) {
	names := make([]string, len(info.Files))
	for i, f := range info.Files {
		names[i] = f.Name
	}
	note(cmd, "%s (mode 0600) holds secret keys: %s. Keep it where only you can read it.", file, strings.Join(names, ", "))
	if info.HasRoot() {
		note(cmd, "The root key is among them, since it is in this operator's directory; it belongs in a safe place of its own.")
	}
}

func newOperatorRestoreCmd() *cobra.Command {
	var opt operator.RestoreOptions
	cmd := &cobra.Command{
		Use:   "restore FILE [--alone]",
		Short: "Make an operator of a backup, in an empty directory",
		Long: "restore puts back what backup, or add, wrote, after checking every byte of it. Start the operator with `culvert operator run`:\n" +
			"before it signs anything it takes in what super-nodes were told after the backup (nodes, devices, revocations), so that\n" +
			"nothing is rolled back. Join tokens and API keys are void: make new ones. The operator that was lost must stay off; should\n" +
			"it come back, it stands by. Where its key may be in other hands, or you want to be sure: `culvert operator takeover`.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			if err := config.MakeDataDir(dir); err != nil {
				return err
			}
			out, err := operator.Restore(cmd.Context(), args[0], dir, opt)
			if err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), out)
			}
			next := "culvert operator run; it signs again once it has heard the super-nodes"
			if out.Standby {
				next = "culvert operator run; it stands by, and `culvert operator takeover` has it lead"
			}
			note(cmd, "Restored as of %s. Next: %s", out.Backup.Created.Local().Format(timeForm), next)
			return table(cmd.OutOrStdout(), [][]string{{"OPERATOR", "ID", "HTTPS", "STANDING"},
				{out.Summary.Name, out.Summary.ID.String(), out.Summary.HTTPS, out.Summary.Standing}})
		},
	}
	cmd.Flags().BoolVar(&opt.Alone, "alone", false, "nothing is left of the mesh: ask nobody what it was told after the backup")
	return cmd
}

func newOperatorAddCmd() *cobra.Command {
	var spec operator.AddSpec
	cmd := &cobra.Command{
		Use:   "add FILE --advertise HOST[:HTTPSPORT]",
		Short: "Add a second operator, which stands by, and write what it is restored from",
		Long: "add admits a further operator with a key of its own, by this operator's consent and the root key. On its computer:\n" +
			"`culvert operator restore FILE`, `culvert operator run`. One operator leads: it enrols, registers and signs. The others\n" +
			"stand by: they answer nodes, follow what the mesh knows, and sign nothing, until `culvert operator takeover` there.\n" +
			"FILE holds secret keys.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if spec.Advertise == "" {
				return usagef("--advertise HOST[:HTTPSPORT] is missing: under which name or address will agents reach the second operator?")
			}
			if spec.File, err = filepath.Abs(args[0]); err != nil {
				return err
			}
			var out operator.Added
			return withRoot(cmd, &spec.RootFile, func(a *adminClient) error {
				if err := a.post("/operators", spec, &out); err != nil {
					return err
				}
				if wantJSON(cmd) {
					return printJSON(cmd.OutOrStdout(), out)
				}
				noteBackup(cmd, args[0], out.Backup)
				return table(cmd.OutOrStdout(), [][]string{{"ID", "EPOCH", "HTTPS"}, {out.ID.String(), strconv.FormatUint(out.Epoch, 10), out.HTTPS}})
			})
		},
	}
	cmd.Flags().StringVar(&spec.Advertise, "advertise", "", "`HOST[:HTTPSPORT]` under which agents will reach it")
	cmd.Flags().Uint16Var(&spec.Port, "port", operator.MessagePort, "where it will answer messages")
	rootFlag(cmd, &spec.RootFile)
	return cmd
}

func newOperatorRotateCmd() *cobra.Command {
	var spec operator.RotateSpec
	cmd := &cobra.Command{
		Use:   "rotate [--root FILE] [--after 10m]",
		Short: "Give this operator a new key",
		Long: "rotate makes a new operator key, which the present one and the root key agree to. It is made known at once and signs after\n" +
			"a while, when every node that is on has asked for news; the operator changes over by itself. Whatever the old key has\n" +
			"signed goes on to count. Look-ups and tunnels go on meanwhile. Where the old key is in other hands: takeover --stolen.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return handOver(cmd, &spec.RootFile, "rotate", &spec) },
	}
	cmd.Flags().StringVar(&spec.After, "after", operator.RotateAfter.String(), "how long the new key is made known before it signs")
	rootFlag(cmd, &spec.RootFile)
	return cmd
}

func newOperatorTakeoverCmd() *cobra.Command {
	var spec operator.TakeoverSpec
	cmd := &cobra.Command{
		Use:   "takeover [--root FILE] [--advertise HOST[:HTTPSPORT]] [--stolen]",
		Short: "Have this operator lead in place of one that is lost",
		Long: "takeover gives the operator in this directory (a standby, or one restored from a backup) a new key at a higher epoch. The\n" +
			"root key alone decides that. All other operators are retired: what they sign from now on is refused everywhere, what they\n" +
			"signed before goes on to count. With --stolen nothing that they ever signed counts: nodes renew their certificates within\n" +
			"minutes and are cut off until then, and what was enrolled or revoked after the backup must be done again.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return handOver(cmd, &spec.RootFile, "takeover", &spec) },
	}
	cmd.Flags().StringVar(&spec.Advertise, "advertise", "", "`HOST[:HTTPSPORT]` under which agents reach it from now on (as before)")
	cmd.Flags().BoolVar(&spec.Stolen, "stolen", false, "the lost key may be in other hands: trust nothing that it has signed")
	rootFlag(cmd, &spec.RootFile)
	return cmd
}

func handOver(cmd *cobra.Command, root *string, verb string, spec any) error {
	return withRoot(cmd, root, func(a *adminClient) error {
		var out operator.Handover
		if err := a.post("/operators:"+verb, spec, &out); err != nil {
			return err
		}
		if wantJSON(cmd) {
			return printJSON(cmd.OutOrStdout(), out)
		}
		note(cmd, "Make a new backup: one from before does not have this key.")
		return table(cmd.OutOrStdout(), [][]string{{"ID", "EPOCH", "HTTPS", "SIGNS FROM"},
			{out.ID.String(), strconv.FormatUint(out.Epoch, 10), out.HTTPS, out.From.Local().Format(timeForm + ":05")}})
	})
}

func newOperatorRetireCmd() *cobra.Command {
	var spec operator.RetireSpec
	cmd := &cobra.Command{
		Use: "retire ID [--root FILE] [--stolen]", Short: "End a further operator for good", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := spec.ID.UnmarshalText([]byte(args[0])); err != nil {
				return usagef("%v", err).withHint("culvert operator list shows the IDs")
			}
			return withRoot(cmd, &spec.RootFile, func(a *adminClient) error {
				return a.finish(cmd, a.post("/operators:retire", spec, nil))
			})
		},
	}
	cmd.Flags().BoolVar(&spec.Stolen, "stolen", false, "its key may be in other hands: trust nothing that it has signed")
	rootFlag(cmd, &spec.RootFile)
	return cmd
}

func newOperatorListCmd() *cobra.Command {
	return &cobra.Command{Use: "list", Short: "List the mesh's operators: which leads, which stand by, which are retired", Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return withAdmin(cmd, func(a *adminClient) error {
			ops, err := listAll[operator.OperatorView](a, "/operators", "")
			var s operator.Summary
			if err = errors.Join(err, a.get("/operator", &s)); err != nil {
				return err
			}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), ops)
			}
			if s.Reason != "" {
				note(cmd, "This operator stands by: %s", s.Reason)
			}
			rows := [][]string{{"ID", "EPOCH", "STATE", "HTTPS", "EXPIRES", "THIS"}}
			for _, o := range ops {
				rows = append(rows, []string{o.ID.String(), strconv.FormatUint(o.Epoch, 10), o.State, o.HTTPS, o.Expires.Local().Format(timeForm), yes(o.Self)})
			}
			return table(cmd.OutOrStdout(), rows)
		})
	}}
}

func rootFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "root", "", "`FILE` with the root key (DIR/keys/root.key)")
}

// withRoot is withAdmin with the root's file named so that a running operator finds it.
func withRoot(cmd *cobra.Command, file *string, fn func(*adminClient) error) error {
	if *file != "" {
		abs, err := filepath.Abs(*file)
		if err != nil {
			return err
		}
		*file = abs
	}
	return withAdmin(cmd, fn)
}
