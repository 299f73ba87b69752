package localapi

// Lists are written as [], never as null, so that a script may go through them without asking.

func list[T any](in []T) []T {
	if in == nil {
		return []T{}
	}
	return in
}

func (s Status) filled() Status {
	s.Listen, s.Roles, s.PortMappings = list(s.Listen), list(s.Roles), list(s.PortMappings)
	s.Memberships = each(s.Memberships, Membership.filled)
	return s
}

func (m Membership) filled() Membership {
	m.Groups, m.SuperNodes = list(m.Groups), each(m.SuperNodes, SuperNode.filled)
	return m
}

func (s SuperNode) filled() SuperNode {
	s.Reasons = list(s.Reasons)
	return s
}

func (d Device) filled() Device {
	d.Ports, d.Locations, d.Groups = list(d.Ports), list(d.Locations), list(d.Groups)
	return d
}

func (n Netcheck) filled() Netcheck {
	n.Traits, n.Advice, n.Servers = list(n.Traits), list(n.Advice), list(n.Servers)
	n.PortMappings, n.Routes = list(n.PortMappings), list(n.Routes)
	n.IPv4.Addresses, n.IPv6.Addresses = list(n.IPv4.Addresses), list(n.IPv6.Addresses)
	return n
}

func (t Tunnel) filled() Tunnel {
	t.Receipt.Attempts = list(t.Receipt.Attempts)
	return t
}

// each copies, as the backend may keep what it handed out.
func each[T any](in []T, f func(T) T) []T {
	out := make([]T, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}
