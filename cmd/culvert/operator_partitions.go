package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"culvert/operator"
)

func newOperatorPartitionsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "partitions", Short: "Show who serves which part of the key space, and what is moving", Args: cobra.NoArgs,
		Long: "partitions shows each range of the key space with its load (enrolled nodes and devices), the super-nodes that serve it,\n" +
			"fill it or are isolated, and whether their records are the same. A position is a domain's number, 8 hex digits, and\n" +
			"the first 8 of the key's hash. Digests are asked for now, which needs a running operator.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdmin(cmd, func(a *adminClient) error {
				var v operator.PartitionsView
				if err := a.get("/partitions", &v); err != nil {
					return err
				}
				if wantJSON(cmd) {
					return printJSON(cmd.OutOrStdout(), v)
				}
				return showPartitions(cmd, v)
			})
		},
	}
}

func showPartitions(cmd *cobra.Command, v operator.PartitionsView) error {
	w := cmd.OutOrStdout()
	if _, err := fmt.Fprintf(w, "epoch %d, signed %s\n\n", v.Epoch, v.Signed.Local().Format(timeForm)); err != nil {
		return err
	}
	rows := [][]string{{"RANGE", "LOAD", "STATE", "DOMAIN", "RECORDS", "DIGEST", "ID"}}
	for _, r := range v.Ranges {
		name, load := r.From+"-"+r.To, strconv.FormatUint(r.Load, 10)
		for _, m := range r.Members {
			records, digest := "", ""
			if m.Answered {
				records, digest = strconv.FormatUint(m.Records, 10), m.Digest[:8]
			}
			rows = append(rows, []string{name, load, string(m.State), m.Domain, records, digest, m.ID.String()})
			name, load = "", ""
		}
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if len(v.Moving) == 0 {
		return nil
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	rows = [][]string{{"MOVING", "TO", "HAS", "ID"}}
	for _, m := range v.Moving {
		rows = append(rows, []string{string(m.Kind), m.To, fmt.Sprintf("%d of %d", m.Have, m.Want), m.ID.String()})
	}
	return table(w, rows)
}
