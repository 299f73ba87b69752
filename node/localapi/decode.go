package localapi

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"culvert/node/config"
)

const (
	maxBody  = 16 << 10
	maxName  = 255
	maxToken = 4096
	bodyTime = 10 * time.Second
)

// decode reads the one JSON object of a request's body into v. It leaves the connection without a read deadline.
func decode(w http.ResponseWriter, r *http.Request, v any) *Error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return Errorf(BadRequest, "send Content-Type: application/json", "the body is not declared to be JSON").withStatus(http.StatusUnsupportedMediaType)
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); err == nil {
			err = errors.New("more than one value")
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return Errorf(BadRequest, "", "the body is longer than %d bytes", maxBody).withStatus(http.StatusRequestEntityTooLarge)
	}
	if err != nil {
		return Errorf(BadRequest, "see openapi.yaml for what this path takes", "the body cannot be read: %v", err)
	}
	return nil
}

// check normalises an open request and refuses what cannot be right.
func (r *OpenRequest) check() *Error {
	device, domain, qualified := strings.Cut(r.Device, "@")
	if qualified {
		if domain == "" || r.Domain != "" && r.Domain != domain {
			return Errorf(BadRequest, "write NAME@DOMAIN or give domain, not both", "device %.80q and domain %.80q contradict each other", r.Device, r.Domain)
		}
		r.Device, r.Domain = device, domain
	}
	if r.Device == "" || !plainName(r.Device) {
		return Errorf(BadRequest, "give a device's name or ID", "device %.80q is not a name", r.Device)
	}
	if !plainName(r.Domain) {
		return Errorf(BadRequest, "give a domain's name", "domain %.80q is not a name", r.Domain)
	}
	port, err := config.ParsePort(r.Port)
	if err != nil {
		return Errorf(BadRequest, "", "port: %v", err)
	}
	r.Port = port.String()
	if r.Route != "" && !slices.Contains(config.RouteNames(), r.Route) {
		return Errorf(BadRequest, "use one of "+strings.Join(config.RouteNames(), ", "), "there is no route %.40q", r.Route)
	}
	return r.checkLocal()
}

// checkLocal keeps forwards on this machine: what listens for the whole LAN would hand the device to nodes without a certificate.
func (r *OpenRequest) checkLocal() *Error {
	if r.Local == "" {
		return nil
	}
	host, port := r.Local, "0"
	if i := strings.LastIndexByte(r.Local, ':'); i >= 0 {
		host, port = r.Local[:i], r.Local[i+1:]
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || !ip.IsLoopback() {
		return Errorf(BadRequest, "write it as 127.0.0.1:9100, or leave it out", "local %.80q is not a loopback address and port", r.Local)
	}
	r.Local = netip.AddrPortFrom(ip, uint16(n)).String()
	return nil
}

func (r *JoinRequest) check() *Error {
	r.Token = strings.TrimSpace(r.Token)
	if r.Token == "" || len(r.Token) > maxToken || strings.ContainsFunc(r.Token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return Errorf(BadRequest, "give the token as the operator printed it", "the token is empty or damaged")
	}
	if !plainName(r.Name) {
		return Errorf(BadRequest, "give a shorter name in plain letters", "name %.80q is not a name", r.Name)
	}
	return nil
}

func (r *LeaveRequest) check() *Error {
	if !plainName(r.Domain) {
		return Errorf(BadRequest, "give a domain's name", "domain %.80q is not a name", r.Domain)
	}
	return nil
}

// plainName holds for text that can be shown and looked up; it may be empty.
func plainName(s string) bool {
	hidden := func(r rune) bool { return !unicode.IsPrint(r) || r == '@' }
	return len(s) <= maxName && utf8.ValidString(s) && !strings.ContainsFunc(s, hidden)
}

// query reads the parameters of /v1/devices and refuses others.
func query(r *http.Request) (DeviceQuery, *Error) {
	var q DeviceQuery
	for name, values := range r.URL.Query() {
		value := values[0]
		switch name {
		case "domain":
			q.Domain = value
		case "refresh":
			on, err := strconv.ParseBool(value)
			if err != nil {
				return q, Errorf(BadRequest, "use refresh=true", "refresh: %.40q is neither true nor false", value)
			}
			q.Refresh = on
		default:
			return q, Errorf(BadRequest, "use domain and refresh", "there is no parameter %.40q", name)
		}
	}
	if !plainName(q.Domain) {
		return q, Errorf(BadRequest, "give a domain's name", "domain %.80q is not a name", q.Domain)
	}
	return q, nil
}
