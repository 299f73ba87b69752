package portmap

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

const (
	ssdpReplyMax   = 2048
	ssdpHeadersMax = 64
	locationMax    = 512
)

// searchTargets are what is searched for. A device of version 2 answers for version 1 too, some of them only for that.
var searchTargets = [...]string{
	"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
	"urn:schemas-upnp-org:device:InternetGatewayDevice:1",
}

// appendSearch is an M-SEARCH to host, which waits for a second at most.
func appendSearch(b []byte, host, target string) []byte {
	return fmt.Appendf(b, "M-SEARCH * HTTP/1.1\r\nHOST: %s\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: %s\r\n\r\n", host, target)
}

// parseSearchReply reads the LOCATION of an answer.
func parseSearchReply(b []byte) (location string, err error) {
	if len(b) > ssdpReplyMax {
		return "", errForeign
	}
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	if f := strings.Fields(string(line)); len(f) < 2 || !strings.HasPrefix(f[0], "HTTP/1.") || f[1] != "200" {
		return "", errForeign
	}
	target := false
	for range ssdpHeadersMax {
		if line, rest, _ = bytes.Cut(rest, []byte("\n")); len(bytes.TrimSpace(line)) == 0 {
			break
		}
		name, value, ok := strings.Cut(string(line), ":")
		if !ok {
			return "", errForeign
		}
		value = strings.TrimSpace(value)
		switch strings.ToUpper(strings.TrimSpace(name)) {
		case "LOCATION":
			location = value
		case "ST":
			target = strings.Contains(value, "InternetGatewayDevice")
		}
	}
	if location == "" || !target {
		return "", errForeign
	}
	return location, nil
}

var errLocation = errors.New("a description at an address that is not the router's")

// parseLocation accepts an http URL at a literal address that may is content with.
func parseLocation(s string, may func(netip.Addr) bool) (*url.URL, error) {
	if len(s) > locationMax {
		return nil, errLocation
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" || u.User != nil || u.Opaque != "" {
		return nil, errLocation
	}
	a, err := netip.ParseAddr(u.Hostname())
	if err != nil || !may(a.WithZone("")) {
		return nil, errLocation
	}
	return u, nil
}
