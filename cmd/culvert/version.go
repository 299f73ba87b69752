package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"culvert/node/localapi"
)

func newVersionCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Say which version this program is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := localapi.Version{Version: buildVersion(), API: "v1", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
			if wantJSON(cmd) {
				return printJSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "culvert %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
			return err
		},
	}
}
