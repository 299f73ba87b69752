package socks

import (
	"strings"

	"culvert/protocol"
)

// Suffix ends the names that lead to devices.
const Suffix = ".culvert"

// Target is a device's port as a client named it. Names are folded, so that equal targets are the same.
type Target struct {
	Device string // name or ID
	Domain string // name; empty: the only one that has the device
	Port   uint16
}

// String is the target as a client may write it.
func (t Target) String() string {
	name := t.Device
	if t.Domain != "" {
		name += "." + t.Domain
	}
	return name + Suffix + ":" + protocol.PortString(t.Port, protocol.TCP)
}

// parseTarget reads a device's name, and reports whether it is one.
func parseTarget(name string, port uint16) (Target, bool) {
	t := Target{Port: port}
	name = protocol.FoldName(strings.TrimSuffix(name, "."))
	device, domain, qualified := strings.Cut(name, "@")
	if !qualified {
		labels, ok := strings.CutSuffix(name, Suffix)
		if !ok {
			return t, false
		}
		device, domain, qualified = strings.Cut(labels, ".")
	}
	t.Device, t.Domain = device, domain
	return t, port != 0 && deviceName(device) && (!qualified || protocol.CheckName(domain) == nil)
}

// deviceName accepts names, and IDs, which are longer.
func deviceName(s string) bool {
	_, err := protocol.ParseID(s)
	return err == nil || protocol.CheckName(s) == nil
}
