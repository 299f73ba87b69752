//go:build linux

package mesh

import (
	"context"
	"errors"
	"fmt"
)

// ErrNoCommand is returned where the binary under test does not have the
// command.
var ErrNoCommand = errors.New("the binary has no such command")

// usageCode is the exit code of a command line that was not understood.
const usageCode = 2

// Netcheck is the kind of site by what the agent has measured.
func (a *Agent) Netcheck(ctx context.Context) (string, error) {
	var found struct {
		Kind string `json:"kind"`
	}
	err := a.read(ctx, &found, "netcheck")
	if failed := (*CommandError)(nil); errors.As(err, &failed) && failed.Code == usageCode {
		return "", fmt.Errorf("netcheck: %w", ErrNoCommand)
	}
	return found.Kind, err
}

// RawTunnels is what tunnels --json prints: with the receipts, for a report.
func (a *Agent) RawTunnels(ctx context.Context) (string, error) {
	return a.Do(ctx, "tunnels", "--json")
}
