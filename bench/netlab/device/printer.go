//go:build linux

package device

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"culvert/bench/netlab/lab"
)

// IPPPort is where printers listen.
const IPPPort = 631

// documentTypes are those that the conformance test asks of a printer.
const documentTypes = "application/pdf,image/pwg-raster,image/jpeg,image/urf,text/plain"

// awake passes from the printer's first full second on: until then it reports
// an up-time of 0, which the conformance test counts as a failure.
const awake = `{
	OPERATION Get-Printer-Attributes
	GROUP operation-attributes-tag
	ATTR charset attributes-charset utf-8
	ATTR language attributes-natural-language en
	ATTR uri printer-uri $uri
	STATUS successful-ok
	EXPECT printer-up-time WITH-VALUE >0
}
`

// A Printer is a running ippeveprinter.
type Printer struct {
	host  *lab.Host
	bus   *lab.Process
	proc  *lab.Process
	spool string
}

// StartPrinter starts a printer on the host and returns when it answers. dir
// is an empty folder of its own.
func StartPrinter(ctx context.Context, h *lab.Host, dir string) (*Printer, error) {
	p := &Printer{host: h, spool: filepath.Join(dir, "spool")}
	if err := os.MkdirAll(p.spool, 0o755); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	// The printer announces itself over D-Bus and ends where there is none; a
	// bus without Avahi is enough.
	bus := "unix:path=" + filepath.Join(dir, "bus")
	var err error
	p.bus, err = h.Start(nil, "dbus-daemon", "--session", "--nofork", "--address="+bus)
	if err != nil {
		return nil, err
	}
	if err := await(ctx, p.bus, func() bool { return exists(filepath.Join(dir, "bus")) }); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	// It takes its name from the host's, which is set in a UTS namespace of its
	// own. Without a command jobs sleep, and the test finds the printer busy.
	p.proc, err = h.Start([]string{"DBUS_SYSTEM_BUS_ADDRESS=" + bus},
		"unshare", "-u", "sh", "-c", `hostname device; exec ippeveprinter "$@"`, "printer",
		"-r", "off", "-p", fmt.Sprint(IPPPort), "-2", "-s", "1000,1000", "-k",
		"-c", "/bin/true", "-d", p.spool, "-f", documentTypes, "printer")
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	test := filepath.Join(dir, "awake.test")
	if err := os.WriteFile(test, []byte(awake), 0o644); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err := await(ctx, p.proc, func() bool {
		res, err := h.Run(ctx, nil, "ipptool", "-q", p.URI(), test)
		return err == nil && res.Code == 0
	}); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// await waits until the process is ready.
func await(ctx context.Context, proc *lab.Process, ready func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", proc, ctx.Err())
		case <-proc.Done():
			return fmt.Errorf("%s ended (%s): %s", proc, proc.Outcome(), proc.Tail(1<<10))
		case <-tick.C:
		}
	}
	return nil
}

// URI is the printer's own on its network.
func (p *Printer) URI() string { return URI(fmt.Sprintf("%s:%d", p.host.Addr(), IPPPort)) }

// URI is where a printer is found that is reached at address, host and port.
func URI(address string) string { return "ipp://" + address + "/ipp/print" }

// Holds tells whether a document with these very bytes lies in the spool.
func (p *Printer) Holds(document []byte) (bool, error) {
	found := false
	err := filepath.WalkDir(p.spool, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		got, err := os.ReadFile(path)
		found = found || string(got) == string(document)
		return err
	})
	return found, err
}

// Close ends the printer.
func (p *Printer) Close() error {
	if p.proc != nil {
		p.proc.Kill()
	}
	p.bus.Kill()
	return nil
}
