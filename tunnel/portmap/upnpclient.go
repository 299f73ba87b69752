package portmap

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/huin/goupnp"
	igd "github.com/huin/goupnp/dcps/internetgateway2"
	"github.com/huin/goupnp/soap"

	"culvert/protocol"
)

// UPnP's words for what goes wrong, in numbers (WANIPConnection:2, section 2.5.20).
const (
	upnpInvalidArgs   = 402
	upnpNoSuchEntry   = 714
	upnpConflict      = 718
	upnpPermanentOnly = 725
)

const errorMax = 200

// description is what the router's list of mappings says about whose they are.
const description = "culvert"

// connection is a WANIPConnection or WANPPPConnection, of any version.
type connection interface {
	GetExternalIPAddressCtx(ctx context.Context) (string, error)
	AddPortMappingCtx(ctx context.Context, remote string, outside uint16, proto string, inside uint16, client string, enabled bool, description string, lease uint32) error
	GetSpecificPortMappingEntryCtx(ctx context.Context, remote string, outside uint16, proto string) (inside uint16, client string, enabled bool, description string, lease uint32, err error)
	DeletePortMappingCtx(ctx context.Context, remote string, outside uint16, proto string) error
}

var (
	_ connection = (*igd.WANIPConnection2)(nil)
	_ connection = (*igd.WANIPConnection1)(nil)
	_ connection = (*igd.WANPPPConnection1)(nil)
)

// serviceClient is goupnp's, over our own HTTP client.
func serviceClient(s service, c http.Client) goupnp.ServiceClient {
	return goupnp.ServiceClient{SOAPClient: &soap.SOAPClient{EndpointURL: s.control, HTTPClient: c}}
}

// upnpClient maps IPv4 ports.
type upnpClient struct {
	searcher
	inside uint16

	conn connection // of the last probe
	by   string
}

var _ client = (*upnpClient)(nil)

func (c *upnpClient) probe(ctx context.Context) (by string, external netip.Addr, err error) {
	web := newHTTPClient(c.gw, c.may)
	c.conn = nil
	err = c.search(ctx, func(ctx context.Context, u *url.URL) error {
		text, err := fetch(ctx, &web, u)
		if err != nil {
			return err
		}
		services, err := parseDescription(text, u, connectionURNs, c.may)
		if err != nil {
			return err
		}
		for _, s := range services { // the first that is connected, else the first that answers
			var conn connection
			switch s.urn {
			case igd.URN_WANIPConnection_2:
				conn = &igd.WANIPConnection2{ServiceClient: serviceClient(s, web)}
			case igd.URN_WANIPConnection_1:
				conn = &igd.WANIPConnection1{ServiceClient: serviceClient(s, web)}
			default:
				conn = &igd.WANPPPConnection1{ServiceClient: serviceClient(s, web)}
			}
			a, e := externalOf(ctx, conn)
			if e != nil && upnpCode(e) == 0 {
				err = e
				continue
			}
			if c.conn == nil || usable(a) {
				c.conn, c.by, external = conn, s.by(), a
			}
			if usable(a) {
				break
			}
		}
		if c.conn == nil {
			return err
		}
		return nil
	})
	return c.by, external, err
}

// externalOf asks for the external address; invalid where the router has none.
func externalOf(ctx context.Context, conn connection) (netip.Addr, error) {
	s, err := conn.GetExternalIPAddressCtx(ctx)
	if err != nil {
		return netip.Addr{}, upnpError(err)
	}
	a, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return netip.Addr{}, nil
	}
	return a, nil
}

func (c *upnpClient) open(ctx context.Context, have grant) (g grant, err error) {
	if c.conn == nil {
		return g, errSilent
	}
	g = grant{by: c.by, lease: leaseTime}
	if g.external, err = externalOf(ctx, c.conn); err != nil && upnpCode(err) == 0 {
		return g, err
	}
	if !usable(g.external) {
		return g, errUnusable
	}
	var last error
	one := func(proto protocol.Transport, want uint16) uint16 {
		p, err := c.add(ctx, proto, want)
		if err != nil {
			last = err
		}
		return p
	}
	g.tcp = one(protocol.TCP, firstOf(have.tcp, c.inside))
	g.udp = one(protocol.UDP, firstOf(have.udp, g.tcp, c.inside))
	return g, opened(g, last)
}

// add opens one port, on want if it can be had.
func (c *upnpClient) add(ctx context.Context, proto protocol.Transport, want uint16) (uint16, error) {
	own, name := c.gw.Local.String(), upnpName(proto)
	lease := uint32(leaseTime / time.Second)
	if v2, ok := c.conn.(*igd.WANIPConnection2); ok {
		for range 2 {
			p, err := v2.AddAnyPortMappingCtx(ctx, "", want, name, c.inside, own, true, description, lease)
			err = upnpError(err)
			if permanentOnly(err) && lease > 0 {
				lease = 0
				continue
			}
			if err == nil && p != 0 && c.owner(ctx, proto, p) != theirs {
				return p, nil
			}
			break // what AddAny cannot do, Add may
		}
		lease = uint32(leaseTime / time.Second)
	}
	last := errConflict
	for _, p := range outsidePorts(c.inside, c.gw.Local, want) {
		if c.owner(ctx, proto, p) == theirs { // some routers would take it from him
			continue
		}
		err := upnpError(c.conn.AddPortMappingCtx(ctx, "", p, name, c.inside, own, true, description, lease))
		if permanentOnly(err) && lease > 0 {
			lease = 0
			err = upnpError(c.conn.AddPortMappingCtx(ctx, "", p, name, c.inside, own, true, description, lease))
		}
		switch {
		case err == nil && c.owner(ctx, proto, p) != theirs:
			return p, nil
		case err != nil && upnpCode(err) != upnpConflict:
			return 0, err
		case err != nil:
			last = errors.Join(errConflict, err)
		}
	}
	return 0, last
}

// ownership is whose a mapping is, as far as the router says.
type ownership int

const (
	unknown ownership = iota // the router does not say
	nobodys
	ours
	theirs
)

func (c *upnpClient) owner(ctx context.Context, proto protocol.Transport, outside uint16) ownership {
	inside, client, _, _, _, err := c.conn.GetSpecificPortMappingEntryCtx(ctx, "", outside, upnpName(proto))
	if err != nil {
		if upnpCode(upnpError(err)) == upnpNoSuchEntry {
			return nobodys
		}
		return unknown
	}
	a, err := netip.ParseAddr(strings.TrimSpace(client))
	switch {
	case err != nil:
		return unknown
	case a == c.gw.Local && inside == c.inside:
		return ours
	}
	return theirs
}

func (c *upnpClient) check(ctx context.Context, have grant) (p pulse, err error) {
	if c.conn == nil {
		return p, errSilent
	}
	if p.external, err = externalOf(ctx, c.conn); err != nil {
		return p, err
	}
	for proto, outside := range map[protocol.Transport]uint16{protocol.TCP: have.tcp, protocol.UDP: have.udp} {
		if outside != 0 {
			o := c.owner(ctx, proto, outside)
			p.lost = p.lost || o == nobodys || o == theirs
		}
	}
	return p, nil
}

// release deletes what is ours; a mapping that has become another's is left alone.
func (c *upnpClient) release(ctx context.Context, have grant) error {
	if c.conn == nil {
		return errSilent
	}
	var errs []error
	for proto, outside := range map[protocol.Transport]uint16{protocol.TCP: have.tcp, protocol.UDP: have.udp} {
		if outside == 0 {
			continue
		}
		if o := c.owner(ctx, proto, outside); o == ours || o == unknown {
			errs = append(errs, upnpError(c.conn.DeletePortMappingCtx(ctx, "", outside, upnpName(proto))))
		}
	}
	return errors.Join(errs...)
}

func upnpName(t protocol.Transport) string {
	if t == protocol.UDP {
		return "UDP"
	}
	return "TCP"
}

// upnpError makes a SOAP fault one of ours. What a router writes for people is cut and quoted.
func upnpError(err error) error {
	var fault *soap.SOAPFaultError
	if !errors.As(err, &fault) {
		if err != nil && len(err.Error()) > errorMax {
			return errors.New(strings.Map(printable, err.Error()[:errorMax])) // goupnp quotes whole answers
		}
		return err
	}
	text := strings.ToValidUTF8(fault.Detail.UPnPError.ErrorDescription, "")
	return &refusedError{fault.Detail.UPnPError.Errorcode, strings.Map(printable, text[:min(len(text), 60)])}
}

func printable(r rune) rune {
	if r < ' ' || r > '~' {
		return -1
	}
	return r
}

func upnpCode(err error) int {
	var no *refusedError
	if errors.As(err, &no) {
		return max(no.code, 1) // a fault without a number is still an answer
	}
	return 0
}

func permanentOnly(err error) bool {
	code := upnpCode(err)
	return code == upnpPermanentOnly || code == upnpInvalidArgs
}
