package rawtcp

import (
	"errors"
	"syscall"
	"testing"
)

// The system tells of a reset once, and of an end from then on: a reader must not take that for the other's orderly end.
func TestResetThatAWriteWasToldOf(t *testing.T) {
	for name, write := range map[string]func(*Conn, []byte) (int, error){"write": (*Conn).Write, "try": (*Conn).TryWrite} {
		c, far := pair(t)
		if err := far.SetLinger(0); err != nil {
			t.Fatal(err)
		}
		if err := far.Close(); err != nil {
			t.Fatal(err)
		}
		for err := error(nil); err == nil; {
			_, err = write(c, []byte("word"))
		}
		for range 2 {
			if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		}
	}
}
