package tunnel

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"culvert/protocol/carrier/descriptors"
)

// What the system or the reserve denies is a limit of this machine and no fault of the device, and leaves nothing open.
func TestDialWithoutRoom(t *testing.T) {
	denied := withRoom(nil, func(context.Context, int) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	})
	if _, err := denied(t.Context(), 0); !errors.Is(err, ErrLimit) || deviceError(err) != err {
		t.Errorf("out of descriptors: %v", err)
	}
	if descriptors.Limit() == 0 {
		return // nothing is refused on this system
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var made net.Conn
	b := descriptors.New(1, nil)
	reserved := withRoom(b, func(context.Context, int) (net.Conn, error) {
		made, err = net.Dial("tcp", l.Addr().String())
		return made, err
	})
	if _, err := reserved(t.Context(), 0); !errors.Is(err, ErrLimit) || !errors.Is(err, descriptors.ErrReserve) {
		t.Errorf("in the reserve: %v", err)
	}
	if _, err := made.Write([]byte{1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the connection is still open: %v", err)
	}
	if b.Refused() != 1 {
		t.Errorf("%d refused", b.Refused())
	}
}
