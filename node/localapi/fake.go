package localapi

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"
)

var _ Backend = (*Fake)(nil)

// Fake is a Backend without a mesh, for tests of this API's clients. Its fields are set before use; the devices are told
// by name and domain, and opening one listens nowhere.
type Fake struct {
	Members []Membership
	Places  []Location
	Known   []Device
	Carried []Served
	Events  *Events
	Check   Netcheck
	Local   string // what an opened tunnel's local address is, unless it was asked for
	Now     func() time.Time
	// Fail, where set, is asked before every call and its error returned.
	Fail func(ctx context.Context, call string) error

	mu      sync.Mutex
	next    int
	tunnels []Tunnel
}

func (f *Fake) fail(ctx context.Context, call string) error {
	if f.Fail == nil {
		return nil
	}
	return f.Fail(ctx, call)
}

func (f *Fake) now() time.Time {
	if f.Now == nil {
		return time.Time{}
	}
	return f.Now()
}

// Status tells of the fake's memberships and tunnels.
func (f *Fake) Status(ctx context.Context) (Status, error) {
	if err := f.fail(ctx, "status"); err != nil {
		return Status{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return Status{Version: "fake", PID: 1, Started: f.now(), Memberships: slices.Clone(f.Members), Tunnels: len(f.tunnels)}, nil
}

// Locations returns Places.
func (f *Fake) Locations(ctx context.Context) ([]Location, error) {
	return slices.Clone(f.Places), f.fail(ctx, "location")
}

// Devices returns those of Known that are asked for.
func (f *Fake) Devices(ctx context.Context, q DeviceQuery) ([]Device, error) {
	if err := f.fail(ctx, "devices"); err != nil {
		return nil, err
	}
	var found []Device
	for _, d := range f.Known {
		if q.Domain == "" || q.Domain == d.Domain {
			found = append(found, d)
		}
	}
	return found, nil
}

// Netcheck returns Check.
func (f *Fake) Netcheck(ctx context.Context) (Netcheck, error) {
	return f.Check, f.fail(ctx, "netcheck")
}

// Tunnels returns what was opened and not closed.
func (f *Fake) Tunnels(ctx context.Context) ([]Tunnel, error) {
	if err := f.fail(ctx, "tunnels"); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tunnels), nil
}

// Served returns Carried.
func (f *Fake) Served(ctx context.Context) ([]Served, error) {
	return slices.Clone(f.Carried), f.fail(ctx, "served")
}

// Open notes a tunnel to a device of Known, by the rules for names and ports.
func (f *Fake) Open(ctx context.Context, r OpenRequest) (Tunnel, error) {
	if err := f.fail(ctx, "open"); err != nil {
		return Tunnel{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	d, err := f.findLocked(r)
	if err != nil {
		return Tunnel{}, err
	}
	f.next++
	t := Tunnel{
		ID: "t" + strconv.Itoa(f.next), Device: d.Name, DeviceID: d.ID, Domain: d.Domain, Port: r.Port, Local: r.Local,
		Route: r.Route, Persist: r.Persist, State: "up", Opened: f.now(), End: "user",
	}
	t.Caller, _ = CallerFrom(ctx)
	if t.Local == "" {
		t.Local = f.Local
	}
	if t.Route == "" {
		t.Route = "lan"
	}
	f.tunnels = append(f.tunnels, t)
	f.publish(TunnelUp, t)
	return t, nil
}

func (f *Fake) findLocked(r OpenRequest) (Device, error) {
	var found []Device
	for _, d := range f.Known {
		if (d.Name == r.Device || d.ID == r.Device) && (r.Domain == "" || r.Domain == d.Domain) {
			found = append(found, d)
		}
	}
	switch {
	case len(f.Members) == 0:
		return Device{}, Errorf(NotEnrolled, "run culvert join TOKEN", "this agent is in no domain")
	case len(found) == 0:
		return Device{}, Errorf(NotFound, "see culvert devices", "there is no device %q", r.Device)
	case len(found) > 1:
		return Device{}, Errorf(Ambiguous, "write "+r.Device+"@DOMAIN", "%q is in %d domains", r.Device, len(found))
	case !slices.Contains(found[0].Ports, r.Port):
		return Device{}, Errorf(NotAllowed, "ask the operator to register it", "port %s of %q is not registered", r.Port, r.Device)
	}
	return found[0], nil
}

func (f *Fake) publish(kind EventType, t Tunnel) {
	if f.Events != nil {
		f.Events.Publish(Event{Type: kind, Time: f.now(), Domain: t.Domain, Device: t.Device, DeviceID: t.DeviceID, Tunnel: &t})
	}
}

// CloseTunnel forgets a tunnel.
func (f *Fake) CloseTunnel(ctx context.Context, id string) error {
	if err := f.fail(ctx, "close"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.tunnels, func(t Tunnel) bool { return t.ID == id })
	if i < 0 {
		return Errorf(NotFound, "see culvert tunnels", "there is no tunnel %q", id)
	}
	t := f.tunnels[i]
	t.State = "down"
	f.tunnels = slices.Delete(f.tunnels, i, i+1)
	f.publish(TunnelDown, t)
	return nil
}

// Join adds a membership in the domain that the token names: "token-for-NAME". Any other token is refused.
func (f *Fake) Join(ctx context.Context, r JoinRequest) (Membership, error) {
	if err := f.fail(ctx, "join"); err != nil {
		return Membership{}, err
	}
	const form = "token-for-"
	if len(r.Token) <= len(form) || r.Token[:len(form)] != form {
		return Membership{}, Errorf(Refused, "ask the operator for another", "the operator does not take this token")
	}
	m := Membership{Domain: r.Token[len(form):], Name: r.Name, State: "active", Expires: f.now().Add(30 * 24 * time.Hour)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Members = append(f.Members, m)
	return m, nil
}

// Leave drops a membership.
func (f *Fake) Leave(ctx context.Context, r LeaveRequest) error {
	if err := f.fail(ctx, "leave"); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.Members, func(m Membership) bool { return m.Domain == r.Domain || r.Domain == "" && len(f.Members) == 1 })
	if i < 0 {
		return Errorf(NotEnrolled, "see culvert status", "this agent is not in the domain %q", r.Domain)
	}
	f.Members = slices.Delete(f.Members, i, i+1)
	return nil
}
