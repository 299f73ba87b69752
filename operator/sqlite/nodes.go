package sqlite

import (
	"culvert/operator/registry"
	"culvert/protocol"
)

const nodeColumns = "SELECT id, name, signing, sealing, groups, token, enrolled, issued, expires, revoked FROM nodes"

func scanNode(s scanner) (n registry.Node, err error) {
	err = s.Scan(fixed(n.ID[:]), &n.Name, fixed(n.Signing[:]), fixed(n.Sealing[:]), list[string]{&n.Groups}, fixed(n.Token[:]),
		stamp{&n.Enrolled}, stamp{&n.Issued}, stamp{&n.Expires}, stamp{&n.Revoked})
	return n, err
}

// Node is the node of that ID.
func (t *Tx) Node(id protocol.ID) (registry.Node, error) {
	return one(t, scanNode, nodeColumns+" WHERE id = ?", id[:])
}

// NodesByName are the nodes of that name that are not revoked: names of nodes need not be unique.
func (t *Tx) NodesByName(d protocol.Domain, name string) ([]registry.Node, error) {
	return all(t, scanNode, nodeColumns+" WHERE domain = ? AND name = ? AND revoked = 0", d, name)
}

// Nodes are up to limit nodes of a domain, 0 for all, whose IDs follow after.
func (t *Tx) Nodes(d protocol.Domain, after protocol.ID, limit int) ([]registry.Node, error) {
	return all(t, scanNode, nodeColumns+" WHERE ? IN (0, domain) AND id > ? ORDER BY id LIMIT ?", d, after[:], limit)
}

// PutNode keeps a node, new or changed.
func (t *Tx) PutNode(n registry.Node) error {
	groups, err := listText(n.Groups)
	if err != nil {
		return err
	}
	return t.exec(`INSERT INTO nodes (id, domain, name, signing, sealing, groups, token, enrolled, issued, expires, revoked)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name, groups = excluded.groups, sealing = excluded.sealing,
token = excluded.token, enrolled = excluded.enrolled, issued = excluded.issued, expires = excluded.expires, revoked = excluded.revoked`,
		n.ID[:], n.ID.Domain(), n.Name, n.Signing[:], n.Sealing[:], groups, n.Token[:],
		millis(n.Enrolled), millis(n.Issued), millis(n.Expires), millis(n.Revoked))
}
