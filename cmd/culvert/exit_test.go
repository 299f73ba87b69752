package main

import (
	"strings"
	"testing"
)

func TestFailedRoutesAreListed(t *testing.T) {
	for _, c := range []struct {
		code, message, want string
	}{
		{"route_failed", "no route works: lan by 1: elsewhere; direct by 1: no open port", "culvert: no route works:\n  lan by 1: elsewhere\n  direct by 1: no open port\n"},
		{"route_failed", "no route works: direct by 1: no open port", "culvert: no route works: direct by 1: no open port\n"},
		{"failed", "a: b; c", "culvert: a: b; c\n"},
	} {
		var b strings.Builder
		root := newRootCmd()
		if code := report(&b, root, nil, &failure{Code: c.code, Message: c.message, exit: exitFailed}); code != exitFailed || b.String() != c.want {
			t.Errorf("%d, %q", code, b.String())
		}
	}
}
