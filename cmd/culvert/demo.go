package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// demoLimit ends a demo that hangs: nothing in it takes longer on a slow machine.
const demoLimit = 85 * time.Second

func newDemoCmd() *cobra.Command {
	var device string
	var nat bool
	cmd := &cobra.Command{
		Use:   "demo [--device HOST:PORT | --nat]",
		Short: "Run a whole mesh on this machine and print through it; ends by itself",
		Long: "demo starts an operator-node, two super-nodes, a tunnel-node, a user-node and a node of another company as\n" +
			"processes of their own, on free ports of 127.0.0.1, and sends a print job through a tunnel, first by the best\n" +
			"route and then relayed. Nothing is left behind. With --device it reaches your own device, from this machine.\n" +
			"With --nat the nodes stand behind real NATs instead, in network namespaces of their own. That wants Linux,\n" +
			"iproute2, nftables and, for a router that opens ports, miniupnpd; no root.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// Also where the terminal is closed, or the reader of a pipe is gone: the nodes are not to outlive the demo.
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
			defer stop()
			limit := demoLimit
			if nat {
				limit = demoNATLimit
			}
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return runDemo(ctx, cmd.OutOrStdout(), device, nat)
		},
	}
	cmd.Flags().BoolVar(&nat, "nat", false, "between real NATs, in network namespaces of this demo's own")
	cmd.Flags().StringVar(&device, "device", "", "your own device instead of the built-in one, e.g. 192.168.1.50:9100")
	cmd.MarkFlagsMutuallyExclusive("device", "nat")
	return cmd
}

// demo is one run: the processes, the built-in device and what the reader sees.
type demo struct {
	out   io.Writer
	dir   string
	bin   string
	began time.Time
	procs []*demoProcess
	names map[string]string          // of nodes, by ID
	in    func(node string) []string // how a command is run on a node's computer; nil: here
}

func runDemo(ctx context.Context, out io.Writer, device string, nat bool) (err error) {
	var own netip.AddrPort
	if device != "" {
		addr, err := net.ResolveTCPAddr("tcp", device)
		if err != nil || addr.IP == nil || addr.Port == 0 {
			return usagef("--device %q: want an address and a port, e.g. 192.168.1.50:9100", device)
		}
		own = netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	}
	dir, err := os.MkdirTemp("", "culvert-demo-")
	if err != nil {
		return err
	}
	bin, err := os.Executable()
	if err != nil {
		return err
	}
	d := &demo{out: out, dir: dir, bin: bin, began: time.Now(), names: make(map[string]string)}
	defer func() {
		d.stopAll()
		if err != nil && !errors.Is(err, context.Canceled) {
			d.showLogs()
		}
		if e := os.RemoveAll(dir); e != nil && err == nil {
			err = e
		}
		if (err == nil || errors.Is(err, context.Canceled)) && (!nat || natInside()) {
			d.say("done", "every process stopped and every file removed")
		}
	}()
	tell := func() error { return d.story(ctx, own) }
	if nat {
		tell = func() error { return runDemoNAT(ctx, d) }
	}
	if err := tell(); err != nil {
		if errors.Is(context.Cause(ctx), context.Canceled) {
			return context.Canceled
		}
		return err
	}
	return nil
}

// story is the main job from the first command to the last byte.
func (d *demo) story(ctx context.Context, own netip.AddrPort) error {
	if err := d.startOperator(ctx); err != nil {
		return err
	}
	if err := d.enrolEverybody(ctx); err != nil {
		return err
	}
	dev, err := d.startDevice(own)
	if err != nil {
		return err
	}
	defer dev.stop()
	tunnelNode, err := d.startAgents(ctx, dev)
	if err != nil {
		return err
	}
	if err := d.registerDevice(ctx, dev, tunnelNode); err != nil {
		return err
	}
	if err := d.findDevice(ctx); err != nil {
		return err
	}
	if err := d.printJob(ctx, dev, ""); err != nil {
		return err
	}
	if err := d.printJob(ctx, dev, "relayed"); err != nil {
		return err
	}
	return d.foreignRefused(ctx, dev)
}

// say prints one step: seconds since the start, who, what.
func (d *demo) say(who, format string, args ...any) {
	fmt.Fprintf(d.out, "%6.2fs  %-11s %s\n", time.Since(d.began).Seconds(), who, fmt.Sprintf(format, args...))
}

// showCommand prints a command as a reader would type it.
func (d *demo) showCommand(args []string) {
	shown := make([]string, 0, len(args))
	for _, a := range args {
		if strings.HasPrefix(a, "culvert-join-") && len(a) > 28 {
			a = a[:24] + "…"
		}
		shown = append(shown, strings.ReplaceAll(a, d.dir+string(filepath.Separator), ""))
	}
	fmt.Fprintf(d.out, "         $ culvert %s\n", strings.Join(shown, " "))
}
