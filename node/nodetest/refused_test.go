package nodetest

import (
	"errors"
	"strings"
	"testing"

	"culvert/node/client"
	"culvert/operator"
)

// What is not allowed is refused in words that say why, and the code that programs tell it by.
func TestRefusedInWords(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme", "other")
	super := m.super("super", "acme")
	d := newDevice(t, "printer")
	secret, unused := newDevice(t, "camera"), newDevice(t, "scanner")
	at := m.agent("workshop", "acme", consents(d, secret, unused))
	user := m.agent("desk", "acme", nil, "office")
	stranger := m.agent("stranger", "other", nil)
	here := at.id("").String()
	must[operator.DeviceView](t)(m.op.AddDevice(t.Context(), admin, operator.DeviceSpec{
		Name: d.name, Domain: "acme", Node: here, Ports: []string{d.portText(), "9=guards"}, Allow: []string{"office"}}))
	m.device(at, secret, "guards")
	m.device(at, unused)
	quiet := must[operator.DeviceView](t)(m.op.AddDevice(t.Context(), admin, operator.DeviceSpec{
		Name: "quiet", Domain: "acme", Node: here, Ports: []string{"7"}}))
	m.announced(super, at)
	user.sees(d.name, secret.name, unused.name, "quiet")
	talk(t, user.opens(client.OpenRequest{Device: d.name, Port: d.portText()}).Local, d.name)

	for name, c := range map[string]struct {
		by           *agent
		device, port string
		code         error
		text         string
	}{
		"unregistered device":        {user, "fax", "9100", client.ErrNotFound, `no such device is registered: "fax"`},
		"unregistered port":          {user, d.name, "22", client.ErrNotAllowed, "not registered"},
		"group":                      {user, secret.name, secret.portText(), client.ErrNotAllowed, "group"},
		"group of a port":            {user, d.name, "9", client.ErrNotAllowed, "group"},
		"no consent":                 {user, "quiet", "7", client.ErrNotAllowed, "consent"},
		"foreign domain by name":     {stranger, unused.name, unused.portText(), client.ErrNotFound, `no such device is registered: "scanner"`},
		"foreign domain by ID":       {stranger, quiet.ID.String(), "7", client.ErrNotFound, "no such device is registered"},
		"domain without membership":  {stranger, unused.name + "@acme", unused.portText(), client.ErrNotEnrolled, `this agent is not in domain "acme"`},
		"of the agent's own consent": {at, "quiet", "7", client.ErrNotAllowed, "consent"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.by.answered(client.OpenRequest{Device: c.device, Port: c.port})
			var e *client.Error
			if !errors.Is(err, c.code) || !errors.As(err, &e) || !strings.Contains(e.Message, c.text) || e.Hint == "" {
				t.Errorf("%#v\nwant code of %v and %q", err, c.code, c.text)
			}
		})
	}
	if secret.met.Load() != 0 || unused.met.Load() != 0 {
		t.Errorf("connections to devices: %d and %d", secret.met.Load(), unused.met.Load())
	}
	l := stranger.devices(client.DeviceQuery{Refresh: true})
	if len(l) != 0 {
		t.Errorf("a stranger sees %+v", l)
	}
}
