package api

import (
	"context"
	"net/http"

	"culvert/operator"
)

// chainRoutes handle the operators' keys: for the operator's own user, through the admin socket.
func chainRoutes(op *operator.Operator) []adminRoute {
	return []adminRoute{
		{http.MethodGet, "/admin/v1/operators", func(_ http.ResponseWriter, r *http.Request, by operator.Actor) (any, error) {
			list, err := op.Operators(r.Context(), by)
			return items[operator.OperatorView]{Items: list}, err
		}},
		{http.MethodPost, "/admin/v1/operators", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v operator.AddSpec) (any, error) {
			return op.Add(ctx, by, v)
		})},
		{http.MethodPost, "/admin/v1/operators:rotate", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v operator.RotateSpec) (any, error) {
			return op.Rotate(ctx, by, v)
		})},
		{http.MethodPost, "/admin/v1/operators:takeover", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v operator.TakeoverSpec) (any, error) {
			return op.Takeover(ctx, by, v)
		})},
		{http.MethodPost, "/admin/v1/operators:retire", body(maxBody, func(ctx context.Context, by operator.Actor, _ *http.Request, v operator.RetireSpec) (any, error) {
			return done{true}, op.Retire(ctx, by, v)
		})},
	}
}
