package carrier

import (
	"net"
	"testing"

	"golang.org/x/net/ipv6"
)

const (
	benchSize  = 200 // bytes: a sealed query
	benchBatch = 32
)

// BenchmarkReadBatch times one datagram through the kernel, written and read in batches.
func BenchmarkReadBatch(b *testing.B) {
	b.Run("platform", func(b *testing.B) { benchUDP(b, false, true) })
	b.Run("unsegmented", func(b *testing.B) { benchUDP(b, false, false) })
	b.Run("portable", func(b *testing.B) { benchUDP(b, true, false) })
	b.Run("x-net", benchXNet)
}

func benchUDP(b *testing.B, portable, segments bool) {
	from, to := listenUDP(b, "[::1]:0", portable), listenUDP(b, "[::1]:0", portable)
	from.Segment(segments)
	to.Segment(segments)
	out, in := buffers(benchBatch, benchSize), buffers(benchBatch, 1500)
	for i := range out {
		out[i].Addr, out[i].N = to.LocalAddr(), benchSize
	}
	b.ReportAllocs()
	for done := 0; done < b.N; done += benchBatch {
		if _, err := from.WriteBatch(out); err != nil {
			b.Fatal(err)
		}
		for got := 0; got < benchBatch; {
			n, err := to.ReadBatch(in)
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
}

// benchXNet is what the platform's batcher is measured against.
func benchXNet(b *testing.B) {
	from, to := listenUDP(b, "[::1]:0", false), listenUDP(b, "[::1]:0", false)
	to.Segment(false)
	writer, reader := ipv6.NewPacketConn(from.Socket()), ipv6.NewPacketConn(to.Socket())
	out, in := make([]ipv6.Message, benchBatch), make([]ipv6.Message, benchBatch)
	for i := range out {
		out[i] = ipv6.Message{Buffers: [][]byte{make([]byte, benchSize)}, Addr: net.UDPAddrFromAddrPort(to.LocalAddr())}
		in[i] = ipv6.Message{Buffers: [][]byte{make([]byte, 1500)}}
	}
	b.ReportAllocs()
	for done := 0; done < b.N; done += benchBatch {
		for sent := 0; sent < benchBatch; {
			n, err := writer.WriteBatch(out[sent:], 0)
			if err != nil {
				b.Fatal(err)
			}
			sent += n
		}
		for got := 0; got < benchBatch; {
			n, err := reader.ReadBatch(in, 0)
			if err != nil {
				b.Fatal(err)
			}
			got += n
		}
	}
}
