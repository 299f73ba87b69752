package carrier

import (
	"net"
	"net/netip"
	"strings"
)

// exceptions are what NO_PROXY lists, as curl and others read it: names with all that is beneath them, addresses, prefixes,
// or * for everything. A port in an entry is not looked at.
type exceptions struct {
	all      bool
	names    []string // without a leading dot
	prefixes []netip.Prefix
}

func parseExceptions(list string) (e exceptions) {
	for entry := range strings.FieldsFuncSeq(strings.ToLower(list), func(r rune) bool { return r == ',' || r == ' ' }) {
		if entry == "*" {
			e.all = true
			continue
		}
		if p, err := netip.ParsePrefix(entry); err == nil {
			e.prefixes = append(e.prefixes, p.Masked())
			continue
		}
		host := entry
		if h, _, err := net.SplitHostPort(entry); err == nil {
			host = h
		}
		if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
			e.prefixes = append(e.prefixes, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
			continue
		}
		if host = strings.TrimPrefix(strings.TrimPrefix(host, "*"), "."); host != "" {
			e.names = append(e.names, host)
		}
	}
	return e
}

// name reports whether a host is excepted; a is its address where it is written as one.
func (e *exceptions) name(host string, a netip.Addr) bool {
	if e.all {
		return true
	}
	for _, p := range e.prefixes {
		if a.IsValid() && p.Contains(a) {
			return true
		}
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, n := range e.names {
		if host == n || strings.HasSuffix(host, "."+n) {
			return true
		}
	}
	return false
}
