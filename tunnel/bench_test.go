package tunnel

import (
	"context"
	"io"
	"net"
	"testing"
)

// sinkDevice swallows what comes and answers one byte at the end.
func sinkDevice(c *net.TCPConn) {
	defer c.Close()
	if _, err := io.Copy(io.Discard, c); err == nil {
		_, _ = c.Write([]byte{1})
	}
}

func throughput(b *testing.B, dial func() net.Conn) {
	const size = 256 << 20
	chunk := make([]byte, 1<<20)
	b.SetBytes(size)
	for b.Loop() {
		c := dial()
		for range size / len(chunk) {
			if _, err := c.Write(chunk); err != nil {
				b.Fatal(err)
			}
		}
		_ = c.(*net.TCPConn).CloseWrite()
		if _, err := io.ReadAll(c); err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

func BenchmarkThroughput(b *testing.B) {
	w, user, node := two(b)
	w.device("sink", "192.168.7.50:9100", 2, sinkDevice, node)
	plain := func() net.Conn {
		c, err := w.dial(context.Background(), benchDevice())
		check(b, err)
		return c
	}
	b.Run("plain TCP", func(b *testing.B) { throughput(b, plain) })
	for _, r := range []Route{Direct, Relayed} {
		tn := user.tunnel(b, "sink", 9100, r)
		b.Run(string(r), func(b *testing.B) { throughput(b, func() net.Conn { return dialTunnel(b, tn) }) })
	}
}

func BenchmarkPunchedThroughput(b *testing.B) {
	w, user, node := behindNATs(b)
	w.device("sink", "192.168.7.50:9100", 2, sinkDevice, node)
	tn := user.tunnel(b, "sink", 9100, Punched)
	throughput(b, func() net.Conn { return dialTunnel(b, tn) })
}

func BenchmarkNewConnections(b *testing.B) {
	w, user, node := two(b)
	w.device("echo", "192.168.7.50:9100", 2, echoDevice, node)
	once := func(b *testing.B, dial func() (net.Conn, error)) {
		b.RunParallel(func(pb *testing.PB) {
			one := make([]byte, 1)
			for pb.Next() {
				c, err := dial()
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = c.Write(one)
				if _, err := io.ReadFull(c, one); err != nil {
					b.Error(err)
				}
				_ = c.(*net.TCPConn).SetLinger(0) // loopback has few ports to wait with
				_ = c.Close()
			}
		})
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "conn/s")
	}
	b.SetParallelism(16)
	b.Run("plain TCP", func(b *testing.B) {
		once(b, func() (net.Conn, error) { return w.dial(context.Background(), benchDevice()) })
	})
	for _, r := range []Route{Direct, Relayed} {
		tn := user.tunnel(b, "echo", 9100, r)
		b.Run(string(r), func(b *testing.B) {
			b.SetParallelism(16)
			once(b, func() (net.Conn, error) { return net.Dial("tcp", tn.Local().String()) })
		})
	}
}
