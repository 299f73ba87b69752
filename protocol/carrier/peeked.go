package carrier

import (
	"io"
	"net"

	"culvert/protocol/rawtcp"
)

// Peeked is a TCP connection of which the first bytes were read already: Read returns them again.
// As a source of io.Copy it hands the Prefix over and then the bare connection, and as a target it
// is the bare connection, so that the kernel can splice both ways.
type Peeked struct {
	*net.TCPConn
	Prefix []byte // still to be read; belongs to the one who reads
}

var (
	_ io.WriterTo   = (*Peeked)(nil)
	_ io.ReaderFrom = (*Peeked)(nil)
)

// Read returns what is left of Prefix, then reads from the connection.
func (p *Peeked) Read(b []byte) (int, error) {
	if len(p.Prefix) == 0 || len(b) == 0 {
		return p.TCPConn.Read(b)
	}
	n := copy(b, p.Prefix)
	p.Prefix = p.Prefix[n:]
	return n, nil
}

// WriteTo copies everything that is still to be read to w.
func (p *Peeked) WriteTo(w io.Writer) (int64, error) {
	var prefix int64
	for len(p.Prefix) > 0 {
		n, err := w.Write(p.Prefix)
		prefix += int64(n)
		p.Prefix = p.Prefix[n:]
		if err != nil {
			return prefix, err
		}
	}
	n, err := p.TCPConn.WriteTo(w)
	return prefix + n, err
}

// raw is a Peeked for TLS, whose records a node passes on all the time.
type raw struct {
	*rawtcp.Conn
	prefix []byte
}

// Read returns what is left of prefix, then reads from the connection.
func (r *raw) Read(b []byte) (int, error) {
	if len(r.prefix) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.prefix)
	r.prefix = r.prefix[n:]
	return n, nil
}
