package carrier

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// Form is how a stream is carried.
type Form uint8

const (
	Bare         Form = iota // TCP alone: for relays
	TLS                      // with an ALPN of ours
	WebSocketTLS             // where only real HTTPS passes
	WebSocket                // where only real HTTP passes
)

func (f Form) String() string { return [...]string{"tcp", "tls", "websocket", "websocket"}[f] }

// Class is what ways have in common that pass one firewall, or do not.
type Class struct {
	Form    Form
	Own     bool // at the port that the node has, not at 443 or 80
	Proxied bool
}

// Way is one way to open a stream to a peer.
type Way struct {
	Class
	Address string // HOST:PORT
}

func (w Way) String() string {
	s := w.Form.String() + " " + w.Address
	if w.Proxied {
		s += " by proxy"
	}
	return s
}

const wayTimeout = 4 * time.Second // to open a stream by one way

var errALPN = errors.New("the peer, or a box on the way, does not take part")

// Dialer opens streams. The zero value dials directly and knows no proxy.
type Dialer struct {
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Proxies *Proxies

	timeout time.Duration // zero: wayTimeout
}

// Open opens a stream for a service. Who answers is not verified.
func (d *Dialer) Open(ctx context.Context, w Way, service string) (ByteConn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(d.timeout, wayTimeout))
	defer cancel()
	conn, err := d.connect(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", w, err)
	}
	c, err := lay(ctx, conn, w, service)
	if err != nil {
		_ = breakOff(conn)
		return nil, fmt.Errorf("%s: %w", w, err)
	}
	return c, nil
}

func (d *Dialer) connect(ctx context.Context, w Way) (net.Conn, error) {
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	if !w.Proxied {
		return dial(ctx, "tcp", w.Address)
	}
	proxy := d.Proxies.For(w.Address)
	if proxy == nil {
		return nil, fmt.Errorf("%w: none for this address", ErrProxy)
	}
	conn, err := dial(ctx, "tcp", proxy.Host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProxy, err)
	}
	through, err := connectBy(ctx, conn, proxy, w.Address)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return through, nil
}

// lay lays what the way is made of over a connection.
func lay(ctx context.Context, conn net.Conn, w Way, service string) (ByteConn, error) {
	host, _, err := net.SplitHostPort(w.Address)
	if err != nil {
		return nil, err
	}
	if w.Form == TLS || w.Form == WebSocketTLS {
		cfg := &tls.Config{
			MinVersion: tls.VersionTLS13, ServerName: host, SessionTicketsDisabled: true,
			InsecureSkipVerify: true, // what is carried proves itself, whoever carries it
		}
		if cfg.NextProtos = []string{service}; w.Form == WebSocketTLS {
			cfg.NextProtos, cfg.MinVersion = []string{"http/1.1"}, tls.VersionTLS12 // a box that looks inside may be old
		}
		c := tls.Client(conn, cfg)
		if err := c.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		if w.Form == TLS {
			if c.ConnectionState().NegotiatedProtocol != service {
				return nil, errALPN
			}
			return OverTLS(c), nil
		}
		conn = c
	}
	if w.Form != Bare {
		return dialWebSocket(ctx, conn, w.Address, service)
	}
	if c, ok := conn.(ByteConn); ok {
		return c, nil
	}
	if c, ok := conn.(*tls.Conn); ok { // to a proxy
		return OverTLS(c), nil
	}
	return nil, fmt.Errorf("%T cannot end one direction alone", conn)
}

// Race opens a stream by whichever way is first to work. The next one starts when the last has failed, or after a moment.
func (d *Dialer) Race(ctx context.Context, ways []Way, service string, stagger time.Duration, note func(Way, error)) (ByteConn, Way, error) {
	type result struct {
		conn ByteConn
		way  Way
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result, len(ways))
	running, started := 0, 0
	start := func() {
		w := ways[started]
		started++
		running++
		go func() {
			c, err := d.Open(ctx, w, service)
			results <- result{c, w, err}
		}()
	}
	defer func() { // the losers are waited for: each ends by ctx
		cancel()
		for ; running > 0; running-- {
			if r := <-results; r.err == nil {
				_ = breakOff(r.conn)
			}
		}
	}()
	pace := time.NewTicker(stagger)
	defer pace.Stop()
	last := ErrNoStream
	for started < len(ways) || running > 0 {
		if running == 0 {
			start()
		}
		select {
		case r := <-results:
			running--
			if ctx.Err() == nil || r.err == nil {
				note(r.way, r.err)
			}
			if r.err == nil {
				return r.conn, r.way, nil
			}
			last = r.err
		case <-pace.C:
			if started < len(ways) {
				start()
			}
		case <-ctx.Done():
			return nil, Way{}, ctx.Err()
		}
	}
	return nil, Way{}, last
}
