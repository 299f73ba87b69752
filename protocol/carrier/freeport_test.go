package carrier

import (
	"fmt"
	"net"
	"testing"
)

// A number that is free is none that a connection may get meanwhile, and given once.
func TestFreePort(t *testing.T) {
	seen := make(map[uint16]bool)
	for range 50 {
		p, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		if seen[p] || p < freeFrom || p >= freeTo {
			t.Fatalf("port %d", p)
		}
		seen[p] = true
		l, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", p))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
}
