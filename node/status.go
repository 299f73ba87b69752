package node

import (
	"context"
	"os"
	"slices"
	"strings"

	"culvert/node/localapi"
)

// Status implements localapi.Backend.
func (b backend) Status(context.Context) (localapi.Status, error) {
	n := b.n
	s := localapi.Status{
		Version: n.cfg.Version, PID: os.Getpid(), Started: n.started, Listen: append([]string{n.bound().String()}, n.choice.web...),
		Roles: n.roles(), Memberships: []localapi.Membership{}, Tunnels: len(n.tunnels.Tunnels()), SOCKS: n.socksAddr(),
		Messages: n.messages(), PortMappings: n.portMappings(), OpenFiles: n.openFiles(),
	}
	for _, f := range n.tunnels.Served() {
		if f.Open > 0 {
			s.Tunnels++
		}
	}
	for _, m := range n.members() {
		s.Memberships = append(s.Memberships, b.membership(m))
	}
	slices.SortFunc(s.Memberships, func(a, b localapi.Membership) int { return strings.Compare(a.Domain, b.Domain) })
	return s, nil
}

// messages says by what messages travel now: nothing is said where nobody answers.
func (n *Node) messages() localapi.Messages {
	by, _ := n.carrier()
	m := localapi.Messages{Carrier: by}
	if s := n.CarrierState(); by == s.Carrier {
		m.Address, m.Proxy = s.Address, s.Proxy
	}
	return m
}

func (b backend) membership(m *membership) localapi.Membership {
	m.mu.Lock()
	f, cert := m.file, m.cert
	m.mu.Unlock()
	out := localapi.Membership{
		Domain: f.DomainName, DomainID: m.domain.String(), NodeID: cert.ID.String(), Name: f.Name,
		Groups: append([]string{}, cert.Groups...), State: m.state(b.n.meshNow()), Expires: cert.Expires, Operator: f.HTTPS,
		SuperNodes: m.using(b.n.meshNow()), Keeper: m.keeps(),
	}
	return out
}
