//go:build linux

package mesh

import (
	"context"
	"fmt"
	"net"
	"strings"

	"culvert/bench/netlab/lab"
)

// httpsPort is the operator's default.
const httpsPort = "443"

// An Operator is a running operator-node.
type Operator struct{ node }

// StartOperator makes an operator on a public host, with its data in a folder
// of dir, and runs it. It is known by its address.
func StartOperator(ctx context.Context, bin string, h *lab.Host, dir string) (*Operator, error) {
	return StartOperatorAt(ctx, bin, h, dir, h.Addr().String())
}

// StartOperatorAt makes one that is known by a name or an address: by a name it
// is reached in each family that the name has an address of.
func StartOperatorAt(ctx context.Context, bin string, h *lab.Host, dir, advertise string) (*Operator, error) {
	n, err := newNode(bin, h, dir)
	if err != nil {
		return nil, err
	}
	o := &Operator{n}
	if _, err := o.Do(ctx, "operator", "init", "--name", "netlab", "--advertise", advertise); err != nil {
		return nil, err
	}
	return o, o.Start(ctx)
}

// Start runs the operator, for the first time or again after Stop or Kill.
func (o *Operator) Start(ctx context.Context) error {
	return o.start(ctx, func() error {
		conn, err := o.host.Dial(ctx, "tcp4", net.JoinHostPort(o.host.Addr().String(), httpsPort))
		if err != nil {
			return err
		}
		return conn.Close()
	}, "operator", "run")
}

// AddDomain registers a customer.
func (o *Operator) AddDomain(ctx context.Context, name string) error {
	_, err := o.Do(ctx, "operator", "domain", "add", name)
	return err
}

// Own marks a domain as the operator's own: no limit of a customer's keeps its super-nodes off the map.
func (o *Operator) Own(ctx context.Context, name string) error {
	_, err := o.Do(ctx, "operator", "domain", "own", name)
	return err
}

// Token is a join token for one node.
func (o *Operator) Token(ctx context.Context, domain string, groups ...string) (string, error) {
	args := []string{"operator", "token", "create", "--domain", domain}
	if len(groups) > 0 {
		args = append(args, "--group", strings.Join(groups, ","))
	}
	return o.Do(ctx, args...)
}

// AddDevice registers a device; what says where it is and what it offers.
func (o *Operator) AddDevice(ctx context.Context, name, domain string, what ...string) error {
	_, err := o.Do(ctx, append([]string{"operator", "device", "add", name, "--domain", domain}, what...)...)
	return err
}

// UpdateDevice changes a device.
func (o *Operator) UpdateDevice(ctx context.Context, name, domain string, what ...string) error {
	_, err := o.Do(ctx, append([]string{"operator", "device", "update", name, "--domain", domain}, what...)...)
	return err
}

// AwaitSuperNodes waits until n super-nodes have been assigned.
func (o *Operator) AwaitSuperNodes(ctx context.Context, n int) error {
	return o.Await(ctx, fmt.Sprintf("to have %d super-nodes", n), func() error {
		var list []struct{}
		if err := o.read(ctx, &list, "operator", "supernode", "list"); err != nil {
			return err
		}
		if len(list) != n {
			return fmt.Errorf("%d super-nodes are assigned", len(list))
		}
		return nil
	})
}
