package portmap

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/huin/goupnp"
	igd "github.com/huin/goupnp/dcps/internetgateway2"
)

const servicesMax = 8

var errNoService = errors.New("the description names no service that opens ports")

// service is one that opens ports, by what a description says.
type service struct {
	urn     string
	control url.URL
}

// by is the version that the service is of.
func (s service) by() string {
	if s.urn == igd.URN_WANIPConnection_2 || s.urn == igd.URN_WANIPv6FirewallControl_1 {
		return ByIGD2
	}
	return ByIGD1
}

// connectionURNs are the services that map IPv4 ports, the best first; pinholeURNs those that let IPv6 in.
var (
	connectionURNs = []string{igd.URN_WANIPConnection_2, igd.URN_WANIPConnection_1, igd.URN_WANPPPConnection_1}
	pinholeURNs    = []string{igd.URN_WANIPv6FirewallControl_1}
)

// parseDescription finds the services of these kinds, in their order, at addresses that may is content with.
func parseDescription(b []byte, location *url.URL, urns []string, may func(netip.Addr) bool) ([]service, error) {
	var root goupnp.RootDevice
	d := xml.NewDecoder(bytes.NewReader(b))
	d.DefaultSpace = goupnp.DeviceXMLNamespace
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("read the description: %w", err)
	}
	base := location
	if root.URLBaseStr != "" {
		u, err := url.Parse(strings.TrimSpace(root.URLBaseStr))
		if err != nil {
			return nil, fmt.Errorf("read the description: %w", err)
		}
		base = u
	}
	root.SetURLBase(base)
	var l []service
	err := errNoService
	for _, urn := range urns {
		root.Device.VisitServices(func(s *goupnp.Service) {
			if strings.TrimSpace(s.ServiceType) != urn || !s.ControlURL.Ok || len(l) == servicesMax {
				return
			}
			u, bad := parseLocation(s.ControlURL.URL.String(), may)
			if bad != nil {
				err = bad
				return
			}
			l = append(l, service{urn, *u})
		})
	}
	if len(l) == 0 {
		return nil, err
	}
	return l, nil
}

// outsidePorts are the external ports to try for port, the same every time: port itself, then others of no meaning, which
// differ from machine to machine, so that two behind one router do not chase each other.
func outsidePorts(port uint16, own netip.Addr, have uint16) []uint16 {
	var l []uint16
	if have != 0 {
		l = append(l, have)
	}
	if have != port {
		l = append(l, port)
	}
	h := uint32(2166136261) // FNV-1a
	for _, b := range append(own.AsSlice(), byte(port>>8), byte(port)) {
		h = (h ^ uint32(b)) * 16777619
	}
	for i := range uint32(5) {
		l = append(l, uint16(20000+(h+i*7919)%40000))
	}
	return l
}
