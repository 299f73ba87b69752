package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
)

// maxHeard bounds the answers kept between two calls of heard; more than a sweep asks for are nobody's answer.
const maxHeard = 4 * 1024

// prober asks by ARP where this process may open raw sockets, else by datagrams; a refusal is not worth a word.
func (kernel) prober(_ context.Context, on Interface) (prober, error) {
	plain := newDatagrams(on)
	if on.Layer3 || on.MAC.IsZero() {
		return plain, nil
	}
	ifi := &net.Interface{Index: on.Index, Name: on.Name, HardwareAddr: on.MAC[:]} // what the two libraries use of one
	raw, err := packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		return plain, nil // EPERM without CAP_NET_RAW
	}
	client, err := arp.New(ifi, raw) // not arp.Dial, which leaks the socket when this fails
	if err != nil {
		_ = raw.Close()   // unused
		return plain, nil // no IPv4 address
	}
	a := &arpProber{datagrams: plain, client: client}
	a.loop.Go(a.read)
	return a, nil
}

// arpProber has one reader and one asker: the library's Resolve reads itself and so must not be used beside it.
type arpProber struct {
	*datagrams
	client *arp.Client
	loop   sync.WaitGroup

	mu      sync.Mutex
	answers []sighting
	ended   bool
}

var _ prober = (*arpProber)(nil)

func (a *arpProber) hears() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.ended
}

func (a *arpProber) heard() []sighting {
	_ = a.datagrams.heard()
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.answers
	a.answers = nil
	return out
}

// ask writes the request itself: the library's Request names the interface's first address as sender, which may be of another prefix.
func (a *arpProber) ask(addr netip.Addr) error {
	p, ok := a.on.onLink(addr)
	if addr.Is6() || !ok || !a.hears() {
		return a.touch(addr)
	}
	req, err := arp.NewPacket(arp.OperationRequest, a.on.MAC[:], p.Addr(), ethernet.Broadcast, addr)
	if err != nil {
		return a.touch(addr)
	}
	if err := a.client.WriteTo(req, ethernet.Broadcast); err != nil {
		return a.touch(addr)
	}
	return nil
}

// read ends when the client is closed or its socket fails (the interface went away).
func (a *arpProber) read() {
	for {
		p, _, err := a.client.Read()
		var socket *net.OpError
		switch {
		case err == nil:
			a.note(p)
		case errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed), errors.As(err, &socket):
			a.mu.Lock()
			a.ended = true
			a.mu.Unlock()
			return
		default: // a malformed packet of somebody's
		}
	}
}

func (a *arpProber) note(p *arp.Packet) {
	mac := macOf(p.SenderHardwareAddr)
	if p.Operation != arp.OperationReply || !p.SenderIP.Is4() || !mac.IsUnicast() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.answers) < maxHeard {
		a.answers = append(a.answers, sighting{p.SenderIP, mac})
	}
}

func (a *arpProber) Close() error {
	err := a.client.Close()
	a.loop.Wait()
	return errors.Join(err, a.datagrams.Close())
}
