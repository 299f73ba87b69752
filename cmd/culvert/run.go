package main

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"culvert/node"
	"culvert/node/config"
)

func newRunCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run [--listen :7700] [--super] [--no-volunteer] [--no-tunnel] [--routes NAME,…] [--socks ADDR]",
		Short: "Run the agent until it is interrupted",
		Long: "run is the agent: it reaches devices for the programs of this computer, and, unless --no-tunnel says otherwise, the\n" +
			"devices of this LAN for others. What else may be set is in config.toml in the data directory, or in the\n" +
			"environment; flags come first, then the environment, then the file. It logs to stderr.\n\n" +
			"Where no UDP gets out, it goes by TLS or WebSocket at ports 443 and 80 by itself, through the HTTP proxy of HTTPS_PROXY if\n" +
			"there is one. A super-node is there for such networks where it may bind these ports: CAP_NET_BIND_SERVICE, or\n" +
			"sysctl net.ipv4.ip_unprivileged_port_start=80.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, settings, err := settle(cmd, "listen", "super", "no-volunteer", "no-tunnel", "routes", "socks")
			if err != nil {
				return err
			}
			log := newLog(cmd.ErrOrStderr(), settings.Log)
			n, err := node.New(cmd.Context(), node.Config{Dir: dir, Settings: settings, Version: buildVersion(), Log: log})
			if err != nil {
				return err
			}
			return n.Run(cmd.Context())
		},
	}
	listenFlag(cmd)
	cmd.Flags().Bool("super", false, "offer this computer, which the internet can reach, as a super-node")
	cmd.Flags().Bool("no-volunteer", false, "do not become a super-node by itself where the internet can reach this computer")
	cmd.Flags().Bool("no-tunnel", false, "do not reach the devices of this LAN for others")
	cmd.Flags().String("socks", "", "loopback address of a SOCKS5 server for names like printer-3.culvert, e.g. 127.0.0.1:1080")
	cmd.Flags().String("routes", "", "routes that tunnels may take, best first ("+strings.Join(config.RouteNames(), ",")+")")
	return cmd
}

func listenFlag(cmd *cobra.Command) {
	cmd.Flags().String("listen", "", "address for messages (UDP) and tunnels (TCP) ("+config.Default().Listen+")")
}

// settle makes the data directory and reads what is configured; the named flags are settings.
func settle(cmd *cobra.Command, names ...string) (dir string, c config.Config, err error) {
	flags := make(map[string]string)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		for _, name := range names {
			if f.Name == name {
				flags[name] = f.Value.String()
			}
		}
	})
	// Alone first: what is wrong in them is a matter of usage, and nothing has been touched yet.
	if _, err := config.Load(config.Sources{Flags: flags}); err != nil {
		return "", c, usagef("%v", err)
	}
	if dir, err = dataDir(cmd); err != nil {
		return "", c, err
	}
	if err := config.MakeDataDir(dir); err != nil {
		return "", c, err
	}
	c, err = config.Load(config.Sources{File: filepath.Join(dir, "config.toml"), Getenv: os.Getenv, Flags: flags})
	return dir, c, err
}

// newLog is the daemon's log. A level that config has not checked reads as info.
func newLog(w io.Writer, c config.Log) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	o := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
