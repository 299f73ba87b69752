//go:build linux

package mesh

import (
	"context"
	"fmt"
)

// NodeID is the agent's in its first domain.
func (a *Agent) NodeID(ctx context.Context) (string, error) {
	var status struct {
		Memberships []struct {
			NodeID string `json:"node_id"`
		} `json:"memberships"`
	}
	if err := a.read(ctx, &status, "status"); err != nil {
		return "", err
	}
	if len(status.Memberships) == 0 {
		return "", fmt.Errorf("%s is in no domain", a.host.Name())
	}
	return status.Memberships[0].NodeID, nil
}

// OpenUDP opens a tunnel to a device's UDP port.
func (a *Agent) OpenUDP(ctx context.Context, device string, port int, flags ...string) (Tunnel, error) {
	t := Tunnel{from: a.host}
	err := a.read(ctx, &t, append([]string{"open", device, fmt.Sprintf("%d/udp", port)}, flags...)...)
	return t, err
}

// AwaitOpenUDP opens it as soon as the mesh allows.
func (a *Agent) AwaitOpenUDP(ctx context.Context, device string, port int, flags ...string) (Tunnel, error) {
	var t Tunnel
	err := a.Await(ctx, fmt.Sprintf("to open %s port %d/udp", device, port), func() (err error) {
		t, err = a.OpenUDP(ctx, device, port, flags...)
		return err
	})
	return t, err
}

// SetEnv gives commands and the daemon, from its next start on, variables
// beyond those that they have anyway.
func (a *Agent) SetEnv(env ...string) { a.env = append([]string{"CULVERT_DATA=" + a.dir}, env...) }
