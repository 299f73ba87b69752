package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"culvert/protocol/carrier"
)

// maxConsent bounds the consent list, maxName a device's or group's name or a password, maxAdvertise what fits a NodeInfo.
const (
	maxConsent   = 10000
	maxName      = 255
	maxAdvertise = 8
	maxAuditBind = 64
	maxExpiry    = 15 * time.Minute // dht.MaxLife
)

// invalid is a value that is well written and cannot be right.
type invalid struct {
	setting string // "limits.tunnels"
	entry   int    // of the consent list, from 0
	err     error
}

func (e *invalid) Error() string { return e.setting + ": " + e.err.Error() }
func (e *invalid) Unwrap() error { return e.err }

// check returns an *invalid for the first value that cannot be right.
func (c *Config) check() error {
	for _, s := range c.settings() {
		if err := c.checkSetting(s); err != nil {
			return &invalid{setting: s.name, err: err}
		}
	}
	if len(c.Consent) > maxConsent {
		return &invalid{setting: "consent", err: fmt.Errorf("%d entries, at most %d are kept", len(c.Consent), maxConsent)}
	}
	for i, e := range c.Consent {
		if err := e.check(); err != nil {
			return &invalid{setting: "consent", entry: i, err: err}
		}
	}
	return nil
}

func (c *Config) checkSetting(s setting) error {
	switch s.name {
	case "listen":
		if err := checkListen(c.Listen); err != nil {
			return err
		}
		return c.checkPort(c.Listen)
	case "routes":
		return c.checkRoutes()
	case "advertise":
		return c.checkAdvertise()
	case "audit_bind":
		return c.checkAuditBind()
	case "api":
		if ap, err := netip.ParseAddrPort(c.API); c.API != "" && (err != nil || !ap.Addr().IsLoopback()) {
			return fmt.Errorf("%.80q is not a loopback address: write it as \"127.0.0.1:7701\"", c.API)
		}
	case "socks":
		if ap, err := netip.ParseAddrPort(c.SOCKS); c.SOCKS != "" && (err != nil || !ap.Addr().IsLoopback()) {
			return fmt.Errorf("%.80q is not a loopback address: write it as \"127.0.0.1:1080\"", c.SOCKS)
		}
	case "socks_user", "socks_password":
		return c.checkSOCKS()
	case "proxy":
		return checkProxy(c.Proxy)
	case "listen_https":
		return checkStreams(c.ListenHTTPS)
	case "listen_http":
		return checkStreams(c.ListenHTTP)
	case "log.level":
		return oneOf(c.Log.Level, "debug", "info", "warn", "error")
	case "log.format":
		return oneOf(c.Log.Format, "text", "json")
	case "record_expiry":
		if c.RecordExpiry <= c.AnnounceInterval {
			return fmt.Errorf("%v is not longer than announce_interval (%v), so announcements would lapse", c.RecordExpiry, c.AnnounceInterval)
		}
		if c.RecordExpiry.D() > maxExpiry {
			return fmt.Errorf("%v is more than %v, which super-nodes do not take", c.RecordExpiry, maxExpiry)
		}
	}
	return s.checkNumber()
}

func oneOf(value string, known ...string) error {
	if !slices.Contains(known, value) {
		return fmt.Errorf("%.40q is not one of %s", value, strings.Join(known, ", "))
	}
	return nil
}

// checkNumber holds durations, counts and sizes within what makes sense.
func (s setting) checkNumber() error {
	switch t := s.target.(type) {
	case *Duration:
		if d := t.D(); d == 0 && s.name == "keepalive" {
			return nil // as found by probing
		} else if d < 100*time.Millisecond || d > 30*24*time.Hour {
			return fmt.Errorf("%v is not between 100ms and 720h: write it as \"30s\" or \"5m\"", d)
		}
	case *int:
		if *t < 1 || *t > 1<<24 {
			return fmt.Errorf("%d is not between 1 and %d", *t, 1<<24)
		}
	case *Bytes:
		if *t < 0 {
			return fmt.Errorf("%d is negative: write \"0\" for no limit", int64(*t))
		}
	}
	return nil
}

func checkListen(listen string) error {
	host, port, err := net.SplitHostPort(listen)
	if err == nil {
		err = checkPort(port, true)
	}
	if err == nil && host != "" {
		_, err = netip.ParseAddr(host)
	}
	if err != nil {
		return fmt.Errorf("%.80q is not an address to listen at: write it as \":7700\" or \"192.0.2.1:7700\"", listen)
	}
	return nil
}

func checkStreams(listen string) error {
	if listen == AutoListen || listen == NoListen {
		return nil
	}
	if err := checkListen(listen); err != nil {
		return fmt.Errorf("%w, \"%s\" or \"%s\"", err, AutoListen, NoListen)
	}
	return nil
}

func checkProxy(proxy string) error {
	if proxy == "" {
		return nil
	}
	_, err := carrier.ParseProxy(proxy) // which does not repeat a password
	return err
}

func (c *Config) checkAdvertise() error {
	if len(c.Advertise) > maxAdvertise {
		return fmt.Errorf("%d addresses, at most %d are announced", len(c.Advertise), maxAdvertise)
	}
	for _, a := range c.Advertise {
		if err := checkPublic(a); err != nil {
			return err
		}
		if err := c.checkPort(a); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkAuditBind() error {
	if len(c.AuditBind) > maxAuditBind {
		return fmt.Errorf("%d addresses, at most %d are used", len(c.AuditBind), maxAuditBind)
	}
	for _, a := range c.AuditBind {
		if ip, err := netip.ParseAddr(a); err != nil || ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
			return fmt.Errorf("%.80q is not an IP address of this machine, without a port", a)
		}
	}
	return nil
}

// checkPort keeps a super-node's port for messages from what everybody takes for a port of streams.
func (c *Config) checkPort(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil && c.Super && (port == "443" || port == "80") {
		return fmt.Errorf("%.80q: a super-node's ports 443 and 80 are for networks that let no UDP out, see listen_https; choose another", address)
	}
	return nil
}

func checkPublic(address string) error {
	host := address
	ok := true
	if h, port, err := net.SplitHostPort(address); err == nil {
		host, ok = h, checkPort(port, false) == nil
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		ok = ok && !ip.IsUnspecified() && !ip.IsMulticast() && ip.Zone() == ""
	} else {
		ok = ok && hostName(host)
	}
	if !ok {
		return fmt.Errorf("%.80q is not reachable from the internet: write it as \"node.example.org\" or \"192.0.2.1:7700\"", address)
	}
	return nil
}

func hostName(host string) bool {
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		bad := func(r rune) bool {
			return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, bad) {
			return false
		}
	}
	return true
}

func checkPort(port string, zero bool) error {
	n, err := strconv.ParseUint(port, 10, 16)
	if err == nil && n == 0 && !zero {
		return strconv.ErrRange
	}
	return err
}

func (c *Config) checkSOCKS() error {
	switch {
	case (c.SOCKSUser == "") != (c.SOCKSPassword == ""):
		return errors.New("socks_user and socks_password go together: set both or none")
	case len(c.SOCKSUser) > maxName || len(c.SOCKSPassword) > maxName:
		return fmt.Errorf("longer than the %d bytes that SOCKS5 carries", maxName)
	}
	return nil
}

func (c *Config) checkRoutes() error {
	if len(c.Routes) == 0 {
		return fmt.Errorf("none left: name at least one of %s", strings.Join(RouteNames(), ", "))
	}
	for i, r := range c.Routes {
		if err := oneOf(r, RouteNames()...); err != nil {
			return err
		}
		if slices.Contains(c.Routes[:i], r) {
			return fmt.Errorf("%s is named twice", r)
		}
	}
	return nil
}

func (e *Consent) check() error {
	switch {
	case e.Device == "" || len(e.Device) > maxName:
		return fmt.Errorf("device must name a registered device")
	case len(e.Ports) == 0:
		return fmt.Errorf("%.40q: ports is empty: name each port, as in [\"9100\", \"161/udp\"]", e.Device)
	}
	for _, g := range e.Groups {
		if g == "" || len(g) > maxName {
			return fmt.Errorf("%.40q: groups holds an empty or overlong name", e.Device)
		}
	}
	return nil
}
