package link

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"

	"culvert/protocol/rawtcp"
)

// Bytes keep their order while they go now from the read loop itself and now by way of a reader who lags behind.
func TestOrderWhereReadersLag(t *testing.T) {
	program, device := pumped(t, false)
	data := random(6 << 20)
	sent := make(chan error, 1)
	go func() {
		_, err := program.Write(data)
		sent <- err
	}()
	var got []byte
	for n := 1; len(got) < len(data); n = n*3%(1<<20) + 1 {
		b := make([]byte, min(n, len(data)-len(got)))
		if _, err := io.ReadFull(device, b); err != nil {
			t.Fatal(err)
		}
		got = append(got, b...)
	}
	if err := <-sent; err != nil || !bytes.Equal(got, data) {
		t.Errorf("other bytes, %v", err)
	}
}

// A device that reads nothing stops its own flow's sender: neither the read loop nor another flow.
func TestStalledDeviceStopsNobodyElse(t *testing.T) {
	stalled, _ := tcpPair(t)
	r := ok(t, connect(t, func(ctx context.Context, f *Flow) {
		if f.Target().Port == 1 {
			_ = f.Accept()
			_, _ = f.WriteTo(rawtcp.New(stalled))
			return
		}
		echo(ctx, f)
	}, func(u, _ *Config) { u.PromoteAfter = -1 }))
	t.Cleanup(func() { stalled.Close() })
	f, err := r.user.Open(Open{Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	full := make(chan error, 1)
	go func() {
		_, err := f.Write(make([]byte, 64<<20))
		full <- err
	}()
	other, err := r.user.Open(Open{Port: 2})
	if err != nil {
		t.Fatal(err)
	}
	data := random(3 << 20)
	if got := echoed(t, other, data); !bytes.Equal(got, data) {
		t.Error("other bytes")
	}
	select {
	case err := <-full:
		t.Errorf("64 MiB went to a device that reads nothing: %v", err)
	default:
	}
	f.Reset(ReasonNone, "")
	if err := <-full; err == nil {
		t.Error("no error after a reset")
	}
}

// A device that resets while the read loop writes to it ends its flow, not the link.
func TestDeviceResetsWhileItIsWrittenTo(t *testing.T) {
	far, device := tcpPair(t)
	ended := make(chan error, 1)
	r := ok(t, connect(t, func(_ context.Context, f *Flow) {
		_ = f.Accept()
		_, err := f.WriteTo(rawtcp.New(far))
		ended <- err
	}, func(u, _ *Config) { u.PromoteAfter = -1 }))
	f, err := r.user.Open(Open{Port: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write([]byte("x"))
	if _, err := io.ReadFull(device, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_ = device.SetLinger(0)
	_ = device.Close()
	for err == nil { // until the other end has noticed
		_, err = f.Write(make([]byte, 1000))
	}
	if err := <-ended; err == nil {
		t.Error("a reset device ended in order")
	}
	if r.user.Err() != nil || r.tunnel.Err() != nil {
		t.Error("the link suffered")
	}
	_ = net.Conn(far).Close()
}
