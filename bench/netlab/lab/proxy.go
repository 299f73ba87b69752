//go:build linux

package lab

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

const (
	proxyHeadLimit = 16 << 10
	proxyPatience  = time.Minute
)

// A Proxy is an HTTP proxy as offices have it: CONNECT to port 443 only, and
// only with a name and a password (RFC 9110 section 9.3.6, RFC 7617).
type Proxy struct {
	host   *Host
	ln     net.Listener
	user   string
	secret string
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	connects atomic.Int64
	refused  atomic.Int64

	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// StartProxy runs a proxy at a port of the host. Without a user nobody is
// asked for a password.
func StartProxy(h *Host, port int, user, secret string) (*Proxy, error) {
	ln, err := h.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("proxy on %s: %w", h.name, err)
	}
	p := &Proxy{host: h, ln: ln, user: user, secret: secret, open: make(map[net.Conn]struct{})}
	p.ctx, p.cancel = context.WithCancel(h.lab.ctx)
	p.wg.Go(p.accept)
	return p, nil
}

// URL is what goes into HTTPS_PROXY.
func (p *Proxy) URL() string {
	_, port, _ := net.SplitHostPort(p.ln.Addr().String())
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(p.host.Addr().String(), port)}
	if p.user != "" {
		u.User = url.UserPassword(p.user, p.secret)
	}
	return u.String()
}

// Connects is how many connections the proxy has made for others, and Refused
// how many requests it has turned down.
func (p *Proxy) Connects() int64 { return p.connects.Load() }

// Refused counts what the proxy turned down.
func (p *Proxy) Refused() int64 { return p.refused.Load() }

// Close ends the proxy and everything that goes through it.
func (p *Proxy) Close() error {
	p.cancel()
	err := p.ln.Close()
	p.mu.Lock()
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		conn, err := p.ln.Accept()
		if err != nil {
			return
		}
		if !p.hold(conn) {
			return
		}
		p.wg.Go(func() {
			defer p.drop(conn)
			p.serve(conn)
		})
	}
}

// hold keeps a connection for Close; false says that it came too late.
func (p *Proxy) hold(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		c.Close()
		return false
	}
	p.open[c] = struct{}{}
	return true
}

func (p *Proxy) drop(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// serve answers requests until one of them becomes a tunnel.
func (p *Proxy) serve(conn net.Conn) {
	limited := &io.LimitedReader{R: conn, N: proxyHeadLimit}
	in := bufio.NewReader(limited)
	for {
		if conn.SetDeadline(time.Now().Add(proxyPatience)) != nil {
			return
		}
		limited.N = proxyHeadLimit
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if code := p.judge(req); code != http.StatusOK {
			p.refused.Add(1)
			if refuse(conn, code) != nil {
				return
			}
			continue
		}
		p.tunnel(conn, in, limited, req.Host)
		return
	}
}

func (p *Proxy) judge(req *http.Request) int {
	if p.user != "" {
		want := "Basic " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+p.secret))
		if subtle.ConstantTimeCompare([]byte(req.Header.Get("Proxy-Authorization")), []byte(want)) != 1 {
			return http.StatusProxyAuthRequired
		}
	}
	if req.Method != http.MethodConnect {
		return http.StatusMethodNotAllowed
	}
	if _, port, err := net.SplitHostPort(req.Host); err != nil || port != "443" {
		return http.StatusForbidden
	}
	return http.StatusOK
}

func refuse(w io.Writer, code int) error {
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Length: 0\r\n", code, http.StatusText(code))
	if code == http.StatusProxyAuthRequired {
		head += "Proxy-Authenticate: Basic realm=\"office\"\r\n"
	}
	_, err := io.WriteString(w, head+"\r\n")
	return err
}

func (p *Proxy) tunnel(client net.Conn, in *bufio.Reader, limited *io.LimitedReader, to string) {
	ctx, cancel := context.WithTimeout(p.ctx, proxyPatience)
	defer cancel()
	server, err := p.dial(ctx, to)
	if err != nil {
		p.refused.Add(1)
		_ = refuse(client, http.StatusBadGateway) // the client is told if it still listens
		return
	}
	if !p.hold(server) {
		return
	}
	defer p.drop(server)
	p.connects.Add(1)
	if client.SetDeadline(time.Time{}) != nil {
		return
	}
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	limited.N = 1 << 62
	var both sync.WaitGroup
	both.Go(func() { pass(server, in) })
	both.Go(func() { pass(client, server) })
	both.Wait()
}

// dial connects for a client. Programs of the lab know its names by a file;
// this one runs outside.
func (p *Proxy) dial(ctx context.Context, to string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(to)
	if err != nil {
		return nil, err
	}
	addrs := p.host.lab.lookup(host)
	if len(addrs) == 0 {
		return p.host.Dial(ctx, "tcp", to)
	}
	var errs []error
	for _, a := range addrs {
		conn, err := p.host.Dial(ctx, "tcp", net.JoinHostPort(a.String(), port))
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// pass copies one direction and hands its end on; a broken one ends both.
func pass(to net.Conn, from io.Reader) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		if c, ok := from.(net.Conn); ok {
			c.Close()
		}
		return
	}
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite() // it fails where the other end is gone
	}
}
