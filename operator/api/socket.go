package api

import (
	"context"
	"errors"
	"net"
	"net/http"

	"culvert/operator"
)

// errForeignPeer marks a caller of the admin socket who is neither the operator's user nor root.
var errForeignPeer = errors.New("the admin socket is for the operator's own user and root")

type peerKey struct{}

// withPeer notes who is at the other end of an admin connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	name, err := peerName(c)
	if err != nil {
		return context.WithValue(ctx, peerKey{}, err)
	}
	return context.WithValue(ctx, peerKey{}, name)
}

// LocalActor authenticates callers of the admin socket by what the system says of them.
func LocalActor(r *http.Request) (operator.Actor, error) {
	switch v := r.Context().Value(peerKey{}).(type) {
	case string:
		return operator.Actor{Name: v, Local: true}, nil
	case error:
		return operator.Actor{}, errors.Join(operator.ErrForbidden, v)
	}
	return operator.Actor{}, operator.ErrForbidden
}
