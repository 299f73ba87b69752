//go:build !linux

package discovery

import "context"

func (kernel) prober(_ context.Context, on Interface) (prober, error) { return newDatagrams(on), nil }
