package nat

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/pion/stun/v3"
)

const (
	// RequestSize is the length of our requests: no answer of ours is longer.
	RequestSize = 96

	stunHeader     = 20
	attrHead       = 4
	fingerprintAll = attrHead + 4
	maxSTUN        = 1500
	software       = "culvert"
)

// Why a datagram that looks like STUN is not answered, or not believed.
var (
	ErrMalformed = errors.New("nat: malformed STUN message")
	ErrKind      = errors.New("nat: STUN message of another kind")
	ErrAttribute = errors.New("nat: STUN attribute that is not served")
	ErrShort     = errors.New("nat: STUN request is shorter than any answer")
)

// Transaction is what tells an answer to one request from all others.
type Transaction = [stun.TransactionIDSize]byte

// Request is a Binding request that leaves room for the whole answer.
func Request(id Transaction) []byte {
	padding := make([]byte, RequestSize-stunHeader-attrHead-fingerprintAll)
	m, err := stun.Build(stun.NewTransactionIDSetter(id), stun.BindingRequest,
		stun.RawAttribute{Type: stun.AttrPadding, Value: padding}, stun.Fingerprint)
	if err != nil {
		return nil // these attributes are constant, and there is no error for them
	}
	return m.Raw
}

// Response is what a server says.
type Response struct {
	ID     Transaction
	Mapped netip.AddrPort
}

// ParseResponse reads the answer to a Binding request.
func ParseResponse(b []byte) (r Response, err error) {
	m, err := parse(b)
	if err != nil {
		return r, err
	}
	if m.Type != stun.BindingSuccess {
		return r, ErrKind
	}
	var a stun.XORMappedAddress
	v, err := m.Get(stun.AttrXORMappedAddress)
	if err != nil || len(v) != 8 && len(v) != 20 || a.GetFrom(m) != nil || len(a.IP) != len(v)-4 {
		return r, ErrMalformed
	}
	ip, _ := netip.AddrFromSlice(a.IP)
	if ip.Is4In6() || ip.IsUnspecified() || ip.IsMulticast() || a.Port <= 0 || a.Port > 0xffff {
		return r, ErrMalformed
	}
	return Response{m.TransactionID, netip.AddrPortFrom(ip, uint16(a.Port))}, nil
}

// IsResponse reports whether a STUN datagram is an answer rather than a question, by the class bits of its type.
func IsResponse(b []byte) bool { return len(b) >= 2 && b[0]&1 == 1 }

// parse checks the whole frame: nothing behind it, and a FINGERPRINT, where there is one, that is the last attribute and fits.
func parse(b []byte) (*stun.Message, error) {
	if len(b) < stunHeader || len(b) > maxSTUN || !stun.IsMessage(b) || int(binary.BigEndian.Uint16(b[2:])) != len(b)-stunHeader {
		return nil, ErrMalformed
	}
	m := &stun.Message{Raw: b}
	if m.Decode() != nil {
		return nil, ErrMalformed
	}
	for i, a := range m.Attributes {
		if a.Type == stun.AttrFingerprint && (i != len(m.Attributes)-1 || len(a.Value) != 4 || stun.Fingerprint.Check(m) != nil) {
			return nil, ErrMalformed
		}
	}
	return m, nil
}

// Responder answers STUN. The zero Responder does not say from where.
type Responder struct {
	Origin4, Origin6 netip.AddrPort // this server's address by family, where it is known
}

// Answer is the answer to a request, or why there is none. It is never longer than the request.
func (r Responder) Answer(req []byte, from netip.AddrPort) ([]byte, error) {
	m, err := parse(req)
	if err != nil {
		return nil, err
	}
	if m.Type != stun.BindingRequest {
		return nil, ErrKind // an answer to an answer would go round for ever
	}
	for _, a := range m.Attributes {
		if a.Type < 0x8000 && a.Type != stun.AttrPadding {
			return nil, ErrAttribute
		}
	}
	addr := from.Addr().Unmap().WithZone("")
	if !addr.IsValid() || addr.IsUnspecified() || addr.IsMulticast() || from.Port() == 0 {
		return nil, ErrMalformed
	}
	room := len(req) - stunHeader - addressSize(addr)
	if room < 0 {
		return nil, ErrShort
	}
	setters := []stun.Setter{
		stun.NewTransactionIDSetter(m.TransactionID), stun.BindingSuccess,
		stun.XORMappedAddress{IP: addr.AsSlice(), Port: int(from.Port())},
	}
	fingerprint := room >= fingerprintAll
	if fingerprint {
		room -= fingerprintAll
	}
	origin := r.Origin4
	if addr.Is6() {
		origin = r.Origin6
	}
	if o := origin.Addr(); o.IsValid() && room >= addressSize(o) {
		room -= addressSize(o)
		setters = append(setters, &stun.ResponseOrigin{IP: o.AsSlice(), Port: int(origin.Port())})
	}
	if room >= attrHead+(len(software)+3)/4*4 {
		setters = append(setters, stun.NewSoftware(software))
	}
	if fingerprint {
		setters = append(setters, stun.Fingerprint)
	}
	a, err := stun.Build(setters...)
	if err != nil {
		return nil, ErrMalformed
	}
	return a.Raw, nil
}

// addressSize is what an attribute with an address takes.
func addressSize(a netip.Addr) int { return attrHead + 4 + a.BitLen()/8 }
