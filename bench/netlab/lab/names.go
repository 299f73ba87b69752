//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// domain is what the names of public hosts end in.
const domain = ".lab"

// DNSName is the name that every host of the lab knows a public host by. It
// stands in a file that lies over /etc/hosts, and so only where programs of
// the lab look; there is no name server.
func (h *Host) DNSName() string { return h.name + domain }

func (l *Lab) hostsFile() string { return filepath.Join(l.dir, "hosts") }

// addNames tells everybody of a name; the file is the same one to the end.
func (l *Lab) addNames(name string, addrs ...netip.Prefix) error {
	var b strings.Builder
	for _, a := range addrs {
		fmt.Fprintf(&b, "%s %s\n", a.Addr(), name)
	}
	f, err := os.OpenFile(l.hostsFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("names: %w", err)
	}
	_, err = f.WriteString(b.String())
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = make(map[string][]netip.Addr)
	}
	for _, a := range addrs {
		l.names[name] = append(l.names[name], a.Addr())
	}
	return errors.Join(err, f.Close())
}

// lookup is the addresses of a name, for what runs in this process.
func (l *Lab) lookup(name string) []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names[name]
}

// ownNames gives this thread, and the programs that it starts, the lab's file
// of names.
func (l *Lab) ownNames() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := unix.Mount(l.hostsFile(), "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("names of the lab: %w", err)
	}
	return nil
}
