//go:build linux

package mesh

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"culvert/bench/netlab/lab"
)

// MessagePort is every node's default, for UDP and TCP.
const MessagePort = 7700

// An Agent is a node that is no operator: a super-node, a tunnel-node, a
// user-node.
type Agent struct{ node }

// NewAgent makes an agent's data folder in dir; config is its config.toml. It
// runs as nobody, who must be able to reach the binary and dir.
func NewAgent(bin string, h *lab.Host, dir, config string) (*Agent, error) {
	n, err := newNode(bin, h, dir)
	if err != nil {
		return nil, err
	}
	a := &Agent{n}
	if err := a.unprivileged(); err != nil {
		return nil, err
	}
	return a, a.Configure(config)
}

// Configure replaces the agent's config.toml; a running daemon reads it when
// it is started again.
func (a *Agent) Configure(config string) error {
	path := filepath.Join(a.dir, "config.toml")
	err := os.WriteFile(path, []byte(config), 0o600)
	if err == nil {
		err = os.Chown(path, nobody, nobody)
	}
	if err != nil {
		return fmt.Errorf("configuration of %s: %w", a.host.Name(), err)
	}
	return nil
}

// Join enrols the agent's host with a token.
func (a *Agent) Join(ctx context.Context, token string) error {
	_, err := a.Do(ctx, "join", token, "--name", a.host.Name())
	return err
}

// Start runs the daemon and returns when it answers on its socket.
func (a *Agent) Start(ctx context.Context, flags ...string) error {
	return a.start(ctx, func() error {
		_, err := a.Do(ctx, "status")
		return err
	}, append([]string{"run"}, flags...)...)
}

// AwaitRole waits until the daemon says that it has a role: user, tunnel, super.
func (a *Agent) AwaitRole(ctx context.Context, role string) error {
	return a.Await(ctx, "to be "+role, func() error {
		var status struct {
			Roles []string `json:"roles"`
		}
		if err := a.read(ctx, &status, "status"); err != nil {
			return err
		}
		if !slices.Contains(status.Roles, role) {
			return fmt.Errorf("its roles are %v", status.Roles)
		}
		return nil
	})
}

// Restart ends the daemon if it runs, and runs it again with the same flags.
func (a *Agent) Restart(ctx context.Context) error {
	if err := a.Stop(); err != nil {
		return err
	}
	return a.Start(ctx, a.args[1:]...)
}

// A Location is one of the networks that the agent stands in.
type Location struct {
	ID        string `json:"id"`
	Interface string `json:"interface"`
	Prefix    string `json:"prefix"`
	Gateway   string `json:"gateway"`
}

// Bytes is the location's ID as it is in a record.
func (l Location) Bytes() ([]byte, error) {
	b, err := hex.DecodeString(l.ID)
	if err != nil {
		return nil, fmt.Errorf("location ID %q: %w", l.ID, err)
	}
	return b, nil
}

// Location is the one of the agent's default route.
func (a *Agent) Location(ctx context.Context) (Location, error) {
	var all []Location
	if err := a.read(ctx, &all, "location"); err != nil {
		return Location{}, err
	}
	if len(all) == 0 {
		return Location{}, fmt.Errorf("%s knows no location", a.host.Name())
	}
	return all[0], nil
}

// A Device is what the agent knows of an end-device.
type Device struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Lookup asks the super-nodes for the domain's devices, and answers whether
// the one named is among them.
func (a *Agent) Lookup(ctx context.Context, device string) error {
	var all []Device
	if err := a.read(ctx, &all, "devices", "--refresh"); err != nil {
		return err
	}
	if !slices.ContainsFunc(all, func(d Device) bool { return d.Name == device }) {
		return fmt.Errorf("%s is not among the devices %v", device, all)
	}
	return nil
}

// A Tunnel is what open prints.
type Tunnel struct {
	ID         string `json:"id"`
	Device     string `json:"device"`
	Port       string `json:"port"`
	Local      string `json:"local"`
	Route      string `json:"route"`
	TunnelNode string `json:"tunnel_node"`
	Relay      string `json:"relay"`

	from *lab.Host
}

// Open opens a tunnel to a device's port. flags may name a route.
func (a *Agent) Open(ctx context.Context, device string, port int, flags ...string) (Tunnel, error) {
	t := Tunnel{from: a.host}
	err := a.read(ctx, &t, append([]string{"open", device, strconv.Itoa(port)}, flags...)...)
	return t, err
}

// AwaitOpen opens the tunnel as soon as the mesh allows: right after a start
// the other end may not have announced itself yet.
func (a *Agent) AwaitOpen(ctx context.Context, device string, port int, flags ...string) (Tunnel, error) {
	var t Tunnel
	err := a.Await(ctx, "to open "+device, func() (err error) {
		t, err = a.Open(ctx, device, port, flags...)
		return err
	})
	return t, err
}

// Dial connects to the tunnel as an app on the agent's machine does.
func (t Tunnel) Dial(ctx context.Context) (*net.TCPConn, error) {
	conn, err := t.from.Dial(ctx, "tcp4", t.Local)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// Close ends a tunnel.
func (a *Agent) Close(ctx context.Context, t Tunnel) error {
	_, err := a.Do(ctx, "close", t.ID)
	return err
}

// Tunnels is what the agent has open.
func (a *Agent) Tunnels(ctx context.Context) ([]Tunnel, error) {
	var all []Tunnel
	err := a.read(ctx, &all, "tunnels")
	return all, err
}
