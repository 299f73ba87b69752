package sqlite

import (
	"net/netip"

	"culvert/operator/registry"
	"culvert/protocol"
)

const superNodeColumns = "SELECT id, signing, sealing, addresses, capacity, state, approved, reason, submitted, answered, isolated, stalls, paused FROM supernodes"

func scanSuperNode(s scanner) (n registry.SuperNode, err error) {
	err = s.Scan(fixed(n.ID[:]), fixed(n.Signing[:]), fixed(n.Sealing[:]), list[netip.AddrPort]{&n.Addresses}, &n.Capacity, &n.State,
		&n.Approved, &n.Reason, stamp{&n.Submitted}, stamp{&n.Answered}, stamp{&n.Isolated}, &n.Stalls, stamp{&n.Paused})
	return n, err
}

// SuperNode is the candidate of that ID.
func (t *Tx) SuperNode(id protocol.ID) (registry.SuperNode, error) {
	return one(t, scanSuperNode, superNodeColumns+" WHERE id = ?", id[:])
}

// SuperNodes are all candidates by ID.
func (t *Tx) SuperNodes() ([]registry.SuperNode, error) {
	return all(t, scanSuperNode, superNodeColumns+" ORDER BY id")
}

// PutSuperNode keeps a candidate, new or changed.
func (t *Tx) PutSuperNode(n registry.SuperNode) error {
	addresses, err := listText(n.Addresses)
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO supernodes (id, signing, sealing, addresses, capacity, state, approved, reason, submitted, answered, isolated, stalls, paused)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET sealing = excluded.sealing, addresses = excluded.addresses,
capacity = excluded.capacity, state = excluded.state, approved = excluded.approved, reason = excluded.reason,
submitted = excluded.submitted, answered = excluded.answered, isolated = excluded.isolated,
stalls = excluded.stalls, paused = excluded.paused`,
		n.ID[:], n.Signing[:], n.Sealing[:], addresses, int64(min(n.Capacity, 1<<62)), string(n.State), n.Approved, n.Reason,
		millis(n.Submitted), millis(n.Answered), millis(n.Isolated), n.Stalls, millis(n.Paused))
}

// Loads is how many enrolled nodes and registered devices each domain has, in order of domain.
func (t *Tx) Loads() ([]registry.Load, error) {
	return all(t, func(s scanner) (l registry.Load, err error) {
		err = s.Scan(&l.Domain, &l.Nodes, &l.Devices)
		return l, err
	}, `SELECT number, (SELECT count(*) FROM nodes WHERE domain = number AND revoked = 0),
(SELECT count(*) FROM devices WHERE domain = number AND removed = 0) FROM domains ORDER BY number`)
}
