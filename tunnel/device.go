package tunnel

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"culvert/protocol"
	"culvert/protocol/rawtcp"
	"culvert/tunnel/link"
)

const (
	// deviceTimeout is how long a device may take to answer a connection, findTimeout to be found by MAC.
	deviceTimeout = 5 * time.Second
	findTimeout   = 8 * time.Second
	// pinLasts is how long a checked TLS key stands for its address.
	pinLasts = time.Minute
	mostPins = 4096
)

// dialer reaches devices for this node. It holds no connection.
type dialer struct {
	locate  Locator
	now     func() time.Time
	dial    func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) // keeps deviceTimeout
	dialUDP func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)

	mu   sync.Mutex
	pins map[pinned]time.Time // when the address was seen to hold the key
}

type pinned struct {
	addr netip.AddrPort
	pin  [32]byte
}

func newDialer(l Locator, now func() time.Time) *dialer {
	return &dialer{locate: l, now: now, pins: make(map[pinned]time.Time),
		dial: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return dialTCP(bounded{ctx, time.Now().Add(deviceTimeout)}, addr)
		},
		dialUDP: func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", addr.String())
		}}
}

// judged finds the device and has the guard judge the place.
func (d *dialer) judged(ctx context.Context, a Ask) (netip.AddrPort, error) {
	if err := CheckRecord(a); err != nil {
		return netip.AddrPort{}, err
	}
	if err := CheckConsent(a); err != nil {
		return netip.AddrPort{}, err
	}
	at, err := d.find(ctx, a)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(at.Addr, a.Port), Check(a, at)
}

// connectUDP finds the device under the same guard and opens a socket that sends to its port and hears nobody else. Whether
// somebody is there, datagrams alone can tell.
func (d *dialer) connectUDP(ctx context.Context, a Ask) (net.Conn, error) {
	if a.Protocol != protocol.UDP {
		return nil, notAllowed(link.ReasonPort, "protocol %d", a.Protocol)
	}
	addr, err := d.judged(ctx, a)
	if err != nil {
		return nil, err
	}
	conn, err := d.dialUDP(ctx, addr)
	if err != nil {
		return nil, deviceError(err)
	}
	return conn, nil
}

// connect finds the device under the guard, checks a pinned key and connects.
func (d *dialer) connect(ctx context.Context, a Ask) (*rawtcp.Conn, error) {
	if a.Protocol != protocol.TCP {
		return nil, notAllowed(link.ReasonPort, "protocol %d", a.Protocol)
	}
	addr, err := d.judged(ctx, a)
	if err != nil {
		return nil, err
	}
	if pin := a.Device.Value.TLSPin; len(pin) > 0 {
		if err := d.checkPin(ctx, addr, pin); err != nil {
			return nil, err
		}
	}
	conn, err := d.dial(ctx, addr)
	if err != nil {
		err = deviceError(err)
		if len(a.Device.Value.MAC) == 6 && a.Device.Value.Node.IsZero() && (err == ErrDeviceTimeout || err == ErrDeviceUnreachable) {
			d.locate.Distrust([6]byte(a.Device.Value.MAC), addr.Addr())
		}
		return nil, err
	}
	switch t := conn.(type) {
	case *rawtcp.Conn:
		return t, nil
	case *net.TCPConn:
		return rawtcp.New(t), nil
	}
	_ = conn.Close()
	return nil, fmt.Errorf("tunnel: device connection is a %T", conn)
}

// dialTCP is rawtcp.Dial where a dialer of any connections is wanted.
func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	c, err := rawtcp.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// find looks for the device where its record says. It decides nothing: Check does.
func (d *dialer) find(ctx context.Context, a Ask) (Place, error) {
	v := a.Device.Value
	at := Place{Own: d.locate.Own()}
	switch {
	case !v.Node.IsZero():
		at.Addr = loopback()
	case len(v.MAC) == 6:
		ctx, cancel := context.WithTimeout(ctx, findTimeout)
		defer cancel()
		addr, err := d.locate.FindMAC(ctx, [6]byte(v.MAC))
		if err != nil {
			return at, ErrDeviceNotFound
		}
		at.Addr = addr.Unmap()
		at.OnLink = d.locate.OnLink(at.Addr)
		at.MAC, _ = d.locate.Neighbour(at.Addr)
	default:
		at.Addr = v.Address.Unmap()
	}
	return at, nil
}

// checkPin makes sure, before a byte of payload goes there, that the device at addr holds the pinned key.
func (d *dialer) checkPin(ctx context.Context, addr netip.AddrPort, pin []byte) error {
	if len(pin) != sha256.Size {
		return ErrDevicePin
	}
	p := pinned{addr, [32]byte(pin)}
	now := d.now()
	d.mu.Lock()
	seen, ok := d.pins[p]
	d.mu.Unlock()
	if ok && now.Sub(seen) < pinLasts && !now.Before(seen) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, deviceTimeout)
	defer cancel()
	raw, err := d.dial(ctx, addr)
	if err != nil {
		return deviceError(err)
	}
	conn := tls.Client(raw, &tls.Config{
		InsecureSkipVerify: true,             // only the key counts
		MinVersion:         tls.VersionTLS10, // devices are old, and nothing but the proof of a key is wanted
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return ErrDevicePin
			}
			h := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
			if subtle.ConstantTimeCompare(h[:], pin) != 1 {
				return ErrDevicePin
			}
			return nil
		},
	})
	err = conn.HandshakeContext(ctx)
	_ = raw.Close()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDevicePin, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.pins) >= mostPins {
		clear(d.pins) // costs a handshake each, nothing else
	}
	d.pins[p] = now
	return nil
}

// deviceError tells what a failed connection says about the device.
func deviceError(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, ErrLimit):
		return err
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return ErrDeviceRefused
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		return ErrDeviceTimeout
	case errors.Is(err, context.Canceled):
		return err
	}
	return ErrDeviceUnreachable
}
