package enrol

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/enrol"
)

// ErrUnreachable marks an operator that did not answer at all.
var ErrUnreachable = errors.New("the operator cannot be reached")

const (
	maxAnswer      = 8 << 20
	requestTimeout = 20 * time.Second
	dialTimeout    = 10 * time.Second
)

// Config is what a Client needs to know.
type Config struct {
	Address string        // host:port of the operator's HTTPS
	Root    protocol.Hash // SHA-256 of the root's signing key
	Now     func() time.Time
	// Dial replaces the network in tests.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Proxy replaces the environment's proxy settings, see carrier.NewProxies.
	Proxy func(*http.Request) (*url.URL, error)
}

// Client talks to one operator. It is safe for concurrent use.
type Client struct {
	config Config
	http   *http.Client
}

// New makes a client; nothing is dialled yet.
func New(c Config) *Client {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if c.Proxy == nil {
		proxies, err := carrier.NewProxies("", os.Getenv, nil)
		if err == nil { // the environment's is left out where it cannot be understood
			c.Proxy = proxies.Request
		}
	}
	host, _, _ := net.SplitHostPort(c.Address)
	return &Client{config: c, http: &http.Client{
		Timeout: requestTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return fmt.Errorf("%w: it redirects, which an operator never does", enrol.ErrBadAnswer)
		},
		Transport: &http.Transport{
			Proxy: c.Proxy, DialContext: c.Dial,
			TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: requestTimeout,
			MaxIdleConns: 1, IdleConnTimeout: 10 * time.Second, MaxResponseHeaderBytes: 64 << 10,
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS13, ServerName: host,
				InsecureSkipVerify: true, // VerifyConnection verifies instead, against the token's root
				VerifyConnection:   enrol.VerifyServer(c.Root, host, c.Now),
			},
		},
	}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Bundle fetches chain, map and the revocations numbered higher than since, and verifies the chain.
func (c *Client) Bundle(ctx context.Context, since uint64) (*enrol.Bundle, *protocol.Trust, error) {
	var b enrol.Bundle
	if err := c.do(ctx, http.MethodGet, "/v1/bundle?since="+strconv.FormatUint(since, 10), nil, &b); err != nil {
		return nil, nil, err
	}
	t, err := b.Trust(c.config.Root, c.config.Now())
	if err != nil {
		return nil, nil, err
	}
	return &b, t, nil
}

func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+c.config.Address+path, body)
	if err != nil {
		return fmt.Errorf("operator address %q: %w", c.config.Address, err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return c.explain(ctx, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return c.explain(ctx, err)
	}
	if len(b) > maxAnswer {
		return fmt.Errorf("%w: more than %d bytes", enrol.ErrBadAnswer, maxAnswer)
	}
	if res.StatusCode != http.StatusOK {
		return refusal(res.StatusCode, b)
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("%w: %v", enrol.ErrBadAnswer, err)
	}
	return nil
}

// explain keeps the reasons that this package or enrol gave, and says the rest in words of the matter.
func (c *Client) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	for _, known := range []error{enrol.ErrWrongRoot, enrol.ErrWrongHost, enrol.ErrClock, enrol.ErrBadAnswer} {
		if errors.Is(err, known) {
			return fmt.Errorf("operator at %s: %w", c.config.Address, err)
		}
	}
	if p := c.proxy(); p != "" {
		return fmt.Errorf("%w at %s through the proxy %s: %w; check the proxy's address, user and password (`proxy` in config.toml, HTTPS_PROXY) "+
			"and whether it lets this address through", ErrUnreachable, c.config.Address, p, err)
	}
	return fmt.Errorf("%w at %s: %w; check the address, the network and that `culvert operator run` is running there", ErrUnreachable, c.config.Address, err)
}

// proxy is the HOST:PORT of the proxy on the way to the operator, empty for none: never its user and password.
func (c *Client) proxy() string {
	if c.config.Proxy == nil {
		return ""
	}
	u, err := c.config.Proxy(&http.Request{URL: &url.URL{Scheme: "https", Host: c.config.Address}})
	if err != nil || u == nil {
		return ""
	}
	return u.Host
}

func refusal(status int, body []byte) error {
	var v struct {
		Error enrol.Error `json:"error"`
	}
	if err := json.Unmarshal(body, &v); err != nil || v.Error.Code == "" {
		return fmt.Errorf("%w: HTTP status %d", enrol.ErrBadAnswer, status)
	}
	return &v.Error
}
