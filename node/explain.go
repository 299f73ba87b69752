package node

import (
	"errors"

	"culvert/dht"
	"culvert/node/localapi"
	"culvert/protocol/enrol"
	"culvert/tunnel"
)

// explainOpen is explain for a tunnel that was to take one route only, if route names it.
func explainOpen(err error, route string) error {
	if route != "" && errors.Is(err, tunnel.ErrNoRoute) {
		return localapi.Errorf(localapi.RouteFailed, "another route may work: open it without --route; `culvert netcheck` here and there says which to expect", "%v", err)
	}
	return explain(err)
}

// explain gives an error the code that programs tell it by, and people what to do.
func explain(err error) error {
	var e *localapi.Error
	if errors.As(err, &e) {
		return err
	}
	code, hint := localapi.Internal, "look into the agent's log"
	switch {
	case errors.Is(err, tunnel.ErrUnknownDevice), errors.Is(err, dht.ErrNotFound):
		code, hint = localapi.NotFound, "see `culvert devices --refresh`; the operator registers devices"
	case errors.Is(err, tunnel.ErrNotAllowed):
		code, hint = localapi.NotAllowed, "the operator's registration, and the consent list of the agent beside the device, decide"
	case errors.Is(err, tunnel.ErrDevicePin):
		code, hint = localapi.NotAllowed, "the device's key has changed, or something else answers at its address"
	case errors.Is(err, tunnel.ErrRevoked):
		code, hint = localapi.Refused, "ask your operator"
	case errors.Is(err, tunnel.ErrDeviceRefused), errors.Is(err, tunnel.ErrDeviceUnreachable), errors.Is(err, tunnel.ErrDeviceNotFound):
		code, hint = localapi.DeviceRefused, "the route works: look at the device, its power, its address and its port"
	case errors.Is(err, tunnel.ErrDeviceTimeout):
		code, hint = localapi.DeviceTimeout, "the route works: look at the device, its power and its firewall"
	case errors.Is(err, tunnel.ErrNoRoute):
		code, hint = localapi.RouteFailed, "is the agent beside the device running? see `culvert status` there"
	case errors.Is(err, dht.ErrUnreachable), errors.Is(err, dht.ErrNoMap):
		code, hint = localapi.RouteFailed, "no super-node answers: see `culvert netcheck`, which says whether UDP, or at least port 443, gets out of this network"
	case errors.Is(err, tunnel.ErrLimit):
		code, hint = localapi.Limit, "close tunnels that are not needed, or raise limits in config.toml"
	case errors.Is(err, tunnel.ErrNoMembership), errors.Is(err, ErrNotEnrolled):
		code, hint = localapi.NotEnrolled, "run: culvert join TOKEN"
	case errors.Is(err, enrol.ErrToken):
		code, hint = localapi.BadRequest, "ask your operator for a join token"
	case errors.Is(err, enrol.ErrTokenUsed), errors.Is(err, enrol.ErrTokenExpired), errors.Is(err, enrol.ErrTokenUnknown),
		errors.Is(err, enrol.ErrBanned), errors.Is(err, enrol.ErrRevoked), errors.Is(err, enrol.ErrBadKey):
		code, hint = localapi.Refused, "ask your operator for a new join token"
	case errors.Is(err, ErrMember):
		code, hint = localapi.BadRequest, "see `culvert status`"
	}
	return localapi.Errorf(code, hint, "%v", err)
}
