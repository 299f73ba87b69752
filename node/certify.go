package node

import (
	"context"
	"fmt"

	"culvert/protocol"
	"culvert/protocol/endpoint"
)

// certified is a node's certificate: its own, one known from before, from this node's own database, or from the mesh.
func (m *membership) certified(ctx context.Context, id protocol.ID) (*protocol.CertifiedNode, error) {
	if m.mesh.isRevoked(id) {
		return nil, fmt.Errorf("%w: %s", endpoint.ErrRevoked, id.Short())
	}
	if id == m.id() {
		return m.certificate(), nil
	}
	if raw, ok := m.node.nodeRecord(id); ok {
		if c, err := m.mesh.trust.CheckNode(raw, m.node.meshNow()); err == nil {
			return c, nil
		}
	}
	c, err := m.client.Certificate(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", id.Short(), err)
	}
	return c, nil
}

// certificateOf is the certificate of one of this process's own identities.
func (n *Node) certificateOf(id protocol.ID) (*protocol.CertifiedNode, error) {
	if m, ok := n.member(id.Domain()); ok && m.id() == id {
		return m.certificate(), nil
	}
	if s := n.serving.Load(); s != nil && s.id == id {
		if c := s.cert(); c != nil {
			return c, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", endpoint.ErrIdentity, id.Short())
}

// isLocal reports whether id is one of this process's identities.
func (n *Node) isLocal(id protocol.ID) bool {
	_, err := n.certificateOf(id)
	return err == nil
}
