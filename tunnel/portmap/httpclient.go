package portmap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	httpTimeout = 3 * time.Second
	httpBodyMax = 256 << 10
)

var (
	errTooLong  = fmt.Errorf("an answer of more than %d bytes", httpBodyMax)
	errOffLink  = errors.New("an address that is not the router's is not dialled")
	errNotFound = errors.New("the router does not answer for its description")
)

// newHTTPClient reaches addresses that may is content with and nothing else.
func newHTTPClient(gw Gateway, may func(netip.Addr) bool) http.Client {
	return http.Client{
		Timeout:       httpTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: capped{&http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				to, err := netip.ParseAddrPort(address)
				if err != nil || !may(to.Addr().WithZone("")) {
					return nil, errOffLink
				}
				return dialFrom(ctx, network, gw, to)
			},
			DisableKeepAlives:      true, // small routers have few connections to give
			DisableCompression:     true,
			MaxResponseHeaderBytes: 16 << 10,
			ResponseHeaderTimeout:  httpTimeout,
		}},
	}
}

// capped fails a body that goes on for too long.
type capped struct{ next http.RoundTripper }

func (c capped) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err == nil {
		resp.Body = &cappedBody{resp.Body, httpBodyMax}
	}
	return resp, err
}

type cappedBody struct {
	io.ReadCloser
	left int
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// fetch gets a description.
func fetch(ctx context.Context, c *http.Client, u *url.URL) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %.40q", errNotFound, resp.Status)
	}
	return io.ReadAll(resp.Body)
}
