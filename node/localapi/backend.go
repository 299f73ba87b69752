package localapi

import "context"

// Backend is the agent as this API needs it. Its methods are called from many goroutines, return promptly once their context is
// done, and report what a program should tell apart as an *[Error]; any other error is an internal one.
type Backend interface {
	Status(ctx context.Context) (Status, error)
	Locations(ctx context.Context) ([]Location, error)
	Devices(ctx context.Context, q DeviceQuery) ([]Device, error)
	Tunnels(ctx context.Context) ([]Tunnel, error)
	// Served lists what this node carries for others, the latest first.
	Served(ctx context.Context) ([]Served, error)
	// Open returns after the device has answered. It notes CallerFrom(ctx) as the one who opened the tunnel.
	Open(ctx context.Context, r OpenRequest) (Tunnel, error)
	// CloseTunnel ends a tunnel, its connections and its persistence.
	CloseTunnel(ctx context.Context, id string) error
	Join(ctx context.Context, r JoinRequest) (Membership, error)
	Leave(ctx context.Context, r LeaveRequest) error
	// Netcheck measures anew what stands between this machine and the internet; it takes up to five seconds.
	Netcheck(ctx context.Context) (Netcheck, error)
}

type callerKey struct{}

// CallerFrom returns who made the request of this context; false where it was not made through this API.
func CallerFrom(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}

// WithCaller returns a context whose request was made by c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}
