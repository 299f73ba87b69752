package portmap

import "time"

// epoch is how long a router says that it has kept its mappings, and when it said so.
type epoch struct {
	known   bool
	seconds uint32
	at      time.Time
}

// restarted reports whether the router has lost its state between the two: its clock has not advanced as ours has. The rule
// is that of RFC 6887, section 8.5; it is a little stricter than NAT-PMP's.
func (before epoch) restarted(now epoch) bool {
	if !before.known || !now.known {
		return false
	}
	if int64(now.seconds)+1 < int64(before.seconds) {
		return true
	}
	ours := int64(now.at.Sub(before.at) / time.Second)
	theirs := int64(now.seconds) - int64(before.seconds)
	return ours+2 < theirs-theirs/16 || theirs+2 < ours-ours/16
}
