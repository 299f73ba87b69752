package dht

import "context"

type behindKey struct{}

// Behind marks a context for a write that nobody waits to have acknowledged: a store may keep it for a moment, so that it shares
// the commit of one that somebody waits for. The caller still hears when it is durable.
func Behind(ctx context.Context) context.Context { return context.WithValue(ctx, behindKey{}, true) }

// IsBehind reports whether a write may wait for others.
func IsBehind(ctx context.Context) bool { return ctx.Value(behindKey{}) != nil }
