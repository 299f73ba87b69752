package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"culvert/node"
	"culvert/node/config"
	"culvert/operator"
	"culvert/operator/api"
	"culvert/protocol"
)

// commandWait is how long a start waits for a command that works on the directory meanwhile.
const commandWait = 3 * time.Second

func newOperatorRunCmd() *cobra.Command {
	var https string
	cmd := &cobra.Command{
		Use:   "run [--listen :7700] [--https :443] [--relay]",
		Short: "Run the operator until it is interrupted",
		Long: "run is the operator: it enrols nodes over HTTPS, answers messages, and pushes what is registered to the super-nodes.\n" +
			"The mesh goes on without it; only enrolment and changes wait. It logs to stderr.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("https") {
				if _, port, err := net.SplitHostPort(https); err != nil || !isPort(port) {
					return usagef("--https %.80q: write it as \":443\" or \"192.0.2.1:443\"", https)
				}
			}
			dir, settings, err := settle(cmd, "listen", "relay")
			if err != nil {
				return err
			}
			return runOperator(cmd.Context(), dir, settings, https, newLog(cmd.ErrOrStderr(), settings.Log))
		},
	}
	listenFlag(cmd)
	cmd.Flags().Bool("relay", false, "relay tunnels, too, where no super-node can")
	cmd.Flags().StringVar(&https, "https", "", "address for enrolment and the admin API (the port that init advertised)")
	return cmd
}

// isPort holds for a port that others can be told of.
func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// runOperator takes the directory's lock and every address first, so that it starts wholly or not at all.
func runOperator(ctx context.Context, dir string, settings config.Config, https string, log *slog.Logger) error {
	_, text, err := net.SplitHostPort(settings.Listen)
	port, numErr := strconv.ParseUint(text, 10, 16)
	if err != nil || numErr != nil || port == 0 {
		return usagef("--listen %s: an operator's port is told to every node, so it must be a fixed one", settings.Listen)
	}
	if protocol.StreamsOnly(netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port))) {
		return usagef("--listen %s: ports 443 and 80 are for networks that let no UDP out, and --https serves them; choose another", settings.Listen)
	}
	settings.ListenSet = true // it may not move to a free port as an agent may

	for {
		// With another key the operator is another one to the mesh, so it starts anew, on the same addresses.
		if err = runOnce(ctx, dir, settings, https, uint16(port), log); !errors.Is(err, operator.ErrReopen) {
			return err
		}
		log.Info("the operator goes on with its next key")
	}
}

func runOnce(ctx context.Context, dir string, settings config.Config, https string, port uint16, log *slog.Logger) error {
	op, err := operator.Open(ctx, dir, operator.Options{Log: log, LockWait: commandWait})
	if err != nil {
		return err
	}
	defer op.Close()
	web, err := listenHTTPS(ctx, op.HTTPS(), https)
	if err != nil {
		return err
	}
	defer web.Close()
	admin, err := api.ListenAdmin(dir)
	if err != nil {
		return err
	}
	defer admin.Close()
	if err := op.Announce(ctx, port); err != nil {
		log.Warn("the advertised host is not resolved; the addresses known before stay", "error", err)
	}
	keys, record, trust := op.Identity()
	former, formerRecord, err := op.FormerIdentity(ctx)
	if err != nil {
		return err
	}
	n, err := node.New(ctx, node.Config{
		Dir: dir, Settings: settings, Version: buildVersion(), Log: log,
		Extension: &node.Extension{
			Keys: keys, Record: record, Trust: trust, RootKey: op.RootKey(), Former: former, FormerRecord: formerRecord,
			Handlers: op.Handlers(), Secrets: op.DomainSecrets,
			Run: func(ctx context.Context, mesh *node.OperatorMesh) error {
				if err := mesh.Fill(ctx, op.StaticRecords(ctx)); err != nil {
					return fmt.Errorf("fill node.db: %w", err)
				}
				g, ctx := errgroup.WithContext(ctx)
				g.Go(func() error {
					if err := mesh.Fill(ctx, op.StaticRecords(ctx)); err != nil && ctx.Err() == nil {
						return err
					}
					return op.Run(ctx, mesh)
				})
				g.Go(func() error {
					return api.Serve(ctx, api.Config{Operator: op, HTTPS: web, Admin: admin, Log: log, Streams: mesh.Streams()})
				})
				return g.Wait()
			},
		},
	})
	if err != nil {
		return err
	}
	log.Info("operator", "https", web.Addr().String(), "advertised", op.HTTPS(), "data", dir)
	return n.Run(ctx)
}

// listenHTTPS takes the address that was asked for, else every interface at the port that is advertised.
func listenHTTPS(ctx context.Context, advertised, asked string) (net.Listener, error) {
	if asked == "" {
		_, port, err := net.SplitHostPort(advertised)
		if err != nil {
			return nil, fmt.Errorf("advertised address %q: %w", advertised, err)
		}
		asked = ":" + port
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", asked)
	if err != nil {
		return nil, &failure{
			Message: fmt.Sprintf("cannot listen for HTTPS at %s: %v", asked, err), Code: codeFailed, exit: exitFailed,
			Hint: fmt.Sprintf("give --https another address, and have %s forwarded to it", advertised),
		}
	}
	return l, nil
}
