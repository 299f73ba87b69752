package carrier

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxHeader bounds what a proxy or a server may answer before its first byte of payload.
const maxHeader = 16 << 10

// ErrProxy marks a proxy that is written wrongly or that refuses.
var ErrProxy = errors.New("HTTP proxy")

// Proxies decides what goes through an HTTP proxy. A nil one uses none.
type Proxies struct {
	proxy  *url.URL // nil: none
	direct func(netip.Addr) bool
	except exceptions
	unused string
}

// NewProxies takes the proxy that is configured, as "http://USER:PASSWORD@HOST:PORT", else the one of the environment:
// HTTPS_PROXY or ALL_PROXY, in either case, but for what NO_PROXY names. Addresses for which direct reports true never go
// through it; nil: loopback, private and link-local ones.
func NewProxies(configured string, getenv func(string) string, direct func(netip.Addr) bool) (*Proxies, error) {
	first := func(names ...string) (name, value string) {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return n, v
			}
		}
		return "", ""
	}
	if direct == nil {
		direct = func(a netip.Addr) bool { return a.IsLoopback() || a.IsPrivate() || a.IsLinkLocalUnicast() }
	}
	p := &Proxies{direct: direct}
	proxy, name := configured, ""
	if proxy == "" {
		name, proxy = first("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
	}
	if proxy == "" {
		return p, nil
	}
	u, err := ParseProxy(proxy)
	if err != nil {
		if configured == "" {
			p.unused = name
			return p, nil // some other program's, such as a SOCKS one
		}
		return nil, err
	}
	_, except := first("NO_PROXY", "no_proxy")
	p.proxy, p.except = u, parseExceptions(except)
	return p, nil
}

// Unused is the variable of the environment that names a proxy of which nothing can be made, empty for none.
func (p *Proxies) Unused() string {
	if p == nil {
		return ""
	}
	return p.unused
}

// ParseProxy reads "http://USER:PASSWORD@HOST:PORT"; the password never shows in its errors.
func ParseProxy(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%w: write it as \"http://USER:PASSWORD@HOST:PORT\"", ErrProxy)
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || n == 0) {
		return nil, fmt.Errorf("%w: its port is not between 1 and 65535: write it as \"http://USER:PASSWORD@HOST:PORT\"", ErrProxy)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	return u, nil
}

// For is the proxy for a HOST:PORT, nil for none.
func (p *Proxies) For(address string) *url.URL {
	if p == nil || p.proxy == nil {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	a, err := netip.ParseAddr(host)
	if err == nil && p.direct(a.Unmap()) || host == "localhost" || p.except.name(host, a.Unmap()) {
		return nil
	}
	return p.proxy
}

// Request is For as http.Transport asks it.
func (p *Proxies) Request(r *http.Request) (*url.URL, error) { return p.For(r.URL.Host), nil }

// Any reports whether there is a proxy at all.
func (p *Proxies) Any() bool { return p != nil && p.proxy != nil }

// connectBy asks the proxy at the other end of conn for a connection to address.
func connectBy(ctx context.Context, conn net.Conn, proxy *url.URL, address string) (net.Conn, error) {
	if proxy.Scheme == "https" {
		c := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: proxy.Hostname()})
		if err := c.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProxy, err)
		}
		conn = c
	}
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: address}, Host: address, Header: make(http.Header)}
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		req.Header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	res, err := connectRequest(conn, req)
	if !stop() {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProxy, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: it answers %s", ErrProxy, res.Status)
	}
	return conn, nil
}

func connectRequest(conn net.Conn, req *http.Request) (*http.Response, error) {
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	// The far end speaks second in everything that is carried, so nothing follows the answer that could be lost here. The
	// reader is one byte at a time for that, and bounded.
	r := bufio.NewReaderSize(&bounded{conn: conn, left: maxHeader}, 16)
	res, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if r.Buffered() > 0 {
		return nil, errors.New("it sends more than an answer")
	}
	return res, nil
}

// bounded reads byte by byte, up to a bound.
type bounded struct {
	conn net.Conn
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errors.New("header is too long")
	}
	b.left--
	return b.conn.Read(p[:1])
}
