package api

import (
	"context"
	_ "embed"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"culvert/operator"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

//go:embed openapi.yaml
var openAPI []byte

// Authenticator says who asks.
type Authenticator func(*http.Request) (operator.Actor, error)

// bearer authenticates by API key.
func bearer(op *operator.Operator) Authenticator {
	return func(r *http.Request) (operator.Actor, error) {
		k, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok {
			return operator.Actor{}, errNoKey
		}
		by, err := op.Authenticate(r.Context(), k)
		if err != nil {
			return by, fmt.Errorf("%w: %w", errNoKey, err)
		}
		return by, nil
	}
}

// As authenticates everybody as by: for the command line in its own process.
func As(by operator.Actor) Authenticator {
	return func(*http.Request) (operator.Actor, error) { return by, nil }
}

// Admin is the admin API for callers that auth admits.
func Admin(op *operator.Operator, auth Authenticator) http.Handler {
	mux := http.NewServeMux()
	for _, r := range adminRoutes(op) {
		mux.HandleFunc(r.method+" "+r.path, func(w http.ResponseWriter, req *http.Request) {
			by, err := auth(req)
			if err != nil {
				writeError(w, err)
				return
			}
			v, err := r.handler(w, req, by)
			if err == nil && r.method != http.MethodGet {
				op.Settle(req.Context())
			}
			switch {
			case err != nil:
				writeError(w, err)
			case v != nil:
				writeJSON(w, http.StatusOK, v)
			}
		})
	}
	mux.HandleFunc("/", notHere)
	return mux
}

// adminRoute answers with a value, an error, or has written itself (nil, nil).
type adminRoute struct {
	method, path string
	handler      func(http.ResponseWriter, *http.Request, operator.Actor) (any, error)
}

// items is a list's answer.
type items[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// done answers what has nothing to tell.
type done struct {
	Done bool `json:"done"`
}

func adminRoutes(op *operator.Operator) []adminRoute {
	routes := []adminRoute{
		{http.MethodGet, "/admin/v1/openapi.yaml", func(w http.ResponseWriter, _ *http.Request, _ operator.Actor) (any, error) {
			w.Header().Set("Content-Type", "application/yaml")
			_, _ = w.Write(openAPI)
			return nil, nil
		}},
		{http.MethodGet, "/admin/v1/operator", func(_ http.ResponseWriter, r *http.Request, _ operator.Actor) (any, error) {
			return op.Summary(r.Context())
		}},
		{http.MethodGet, "/admin/v1/audit", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			limit, err := pageLimit(r)
			if err != nil {
				return nil, err
			}
			var after uint64
			if s := r.URL.Query().Get("after"); s != "" {
				if after, err = strconv.ParseUint(s, 10, 62); err != nil {
					return nil, fmt.Errorf("%w: after %.20q is not a number", enrol.ErrBadRequest, s)
				}
			}
			list, next, err := op.AuditLog(r.Context(), by, r.URL.Query().Get("domain"), after, limit)
			out := items[operator.AuditView]{Items: list}
			if next != 0 {
				out.Next = strconv.FormatUint(next, 10)
			}
			return out, err
		}},
	}
	routes = append(routes, chainRoutes(op)...)
	routes = append(routes, domainRoutes(op)...)
	routes = append(routes, deviceRoutes(op)...)
	return append(routes, nodeRoutes(op)...)
}

// body wraps a handler that takes a JSON body.
func body[T any](limit int64, fn func(context.Context, operator.Actor, *http.Request, T) (any, error)) func(http.ResponseWriter, *http.Request, operator.Actor) (any, error) {
	return func(w http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
		var v T
		if err := decode(w, r, limit, true, &v); err != nil {
			return nil, err
		}
		return fn(r.Context(), by, r, v)
	}
}

func domainRoutes(op *operator.Operator) []adminRoute {
	type newDomain struct {
		Name string `json:"name"`
	}
	type change struct {
		Banned *bool `json:"banned"`
		Own    *bool `json:"own"`
	}
	type newKey struct {
		Domain string `json:"domain"`
	}
	return []adminRoute{
		{http.MethodGet, "/admin/v1/domains", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			list, err := op.Domains(r.Context(), by)
			return items[operator.DomainView]{Items: list}, err
		}},
		{http.MethodPost, "/admin/v1/domains", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v newDomain) (any, error) {
			return op.AddDomain(ctx, by, v.Name)
		})},
		{http.MethodPatch, "/admin/v1/domains/{domain}", body(maxBody, func(ctx context.Context, by operator.Actor, r *http.Request, v change) (any, error) {
			name := r.PathValue("domain")
			var out operator.DomainView
			err := fmt.Errorf("%w: name banned, own or both", enrol.ErrBadRequest)
			if v.Banned != nil && *v.Banned {
				out, err = op.BanDomain(ctx, by, name)
			} else if v.Banned != nil {
				out, err = op.UnbanDomain(ctx, by, name)
			}
			if v.Own != nil && (v.Banned == nil || err == nil) {
				out, err = op.SetOwnDomain(ctx, by, name, *v.Own)
			}
			return out, err
		})},
		{http.MethodGet, "/admin/v1/tokens", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			list, err := op.Tokens(r.Context(), by, r.URL.Query().Get("domain"))
			return items[operator.TokenView]{Items: list}, err
		}},
		{http.MethodPost, "/admin/v1/tokens", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v operator.TokenSpec) (any, error) {
			return op.CreateToken(ctx, by, v)
		})},
		{http.MethodDelete, "/admin/v1/tokens/{token}", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return done{true}, op.DeleteToken(r.Context(), by, r.PathValue("token"))
		}},
		{http.MethodGet, "/admin/v1/apikeys", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			list, err := op.APIKeys(r.Context(), by)
			return items[operator.APIKeyView]{Items: list}, err
		}},
		{http.MethodPost, "/admin/v1/apikeys", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v newKey) (any, error) {
			return op.CreateAPIKey(ctx, by, v.Domain)
		})},
		{http.MethodDelete, "/admin/v1/apikeys/{apikey}", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return done{true}, op.DeleteAPIKey(r.Context(), by, r.PathValue("apikey"))
		}},
	}
}

func deviceRoutes(op *operator.Operator) []adminRoute {
	type bulk struct {
		Devices []operator.DeviceSpec `json:"devices"`
	}
	type which struct {
		Domain string `json:"domain"`
	}
	return []adminRoute{
		{http.MethodGet, "/admin/v1/devices", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			after, limit, err := page(r)
			if err != nil {
				return nil, err
			}
			list, next, err := op.Devices(r.Context(), by, r.URL.Query().Get("domain"), after, limit)
			return items[operator.DeviceView]{list, nextText(next)}, err
		}},
		{http.MethodPost, "/admin/v1/devices", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v operator.DeviceSpec) (any, error) {
			return op.AddDevice(ctx, by, v)
		})},
		{http.MethodPost, "/admin/v1/devices:bulk", body(maxBulk, func(ctx context.Context, by operator.Actor, _ *http.Request, v bulk) (any, error) {
			list, err := op.AddDevices(ctx, by, v.Devices)
			return items[operator.DeviceView]{Items: list}, err
		})},
		{http.MethodPost, "/admin/v1/devices:push", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v which) (any, error) {
			return op.Push(ctx, by, v.Domain)
		})},
		{http.MethodGet, "/admin/v1/devices/{device}", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return op.Device(r.Context(), by, r.PathValue("device"))
		}},
		{http.MethodPatch, "/admin/v1/devices/{device}", body(maxBody, func(ctx context.Context, by operator.Actor, r *http.Request, v operator.DevicePatch) (any, error) {
			return op.UpdateDevice(ctx, by, r.PathValue("device"), v)
		})},
		{http.MethodDelete, "/admin/v1/devices/{device}", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return done{true}, op.RemoveDevice(r.Context(), by, r.PathValue("device"))
		}},
	}
}

func nodeRoutes(op *operator.Operator) []adminRoute {
	type policy struct {
		Policy operator.Policy `json:"policy"`
	}
	return []adminRoute{
		{http.MethodGet, "/admin/v1/nodes", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			after, limit, err := page(r)
			if err != nil {
				return nil, err
			}
			list, next, err := op.Nodes(r.Context(), by, r.URL.Query().Get("domain"), after, limit)
			return items[operator.NodeView]{list, nextText(next)}, err
		}},
		{http.MethodPost, "/admin/v1/nodes/{node}/revoke", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			if _, err := protocol.ParseID(r.PathValue("node")); err != nil {
				return nil, fmt.Errorf("%w: %v", enrol.ErrBadRequest, err)
			}
			return op.RevokeNode(r.Context(), by, r.PathValue("node"))
		}},
		{http.MethodGet, "/admin/v1/supernodes", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			list, err := op.SuperNodes(r.Context(), by)
			return items[operator.SuperNodeView]{Items: list}, err
		}},
		{http.MethodPost, "/admin/v1/supernodes/{node}/approve", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return done{true}, op.ApproveSuperNode(r.Context(), by, r.PathValue("node"))
		}},
		{http.MethodPost, "/admin/v1/supernodes/{node}/bar", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return done{true}, op.BarSuperNode(r.Context(), by, r.PathValue("node"))
		}},
		{http.MethodPost, "/admin/v1/supernodes/{node}/isolate", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return done{true}, op.IsolateSuperNode(r.Context(), by, r.PathValue("node"))
		}},
		{http.MethodPost, "/admin/v1/supernodes/{node}/release", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return done{true}, op.ReleaseSuperNode(r.Context(), by, r.PathValue("node"))
		}},
		{http.MethodGet, "/admin/v1/partitions", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			return op.Partitions(r.Context(), by)
		}},
		{http.MethodGet, "/admin/v1/policy", func(_ http.ResponseWriter, r *http.Request, _ operator.Actor) (any, error) {
			p, err := op.Policy(r.Context())
			return policy{p}, err
		}},
		{http.MethodPut, "/admin/v1/policy", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v policy) (any, error) {
			return v, op.SetPolicy(ctx, by, v.Policy)
		})},
	}
}
