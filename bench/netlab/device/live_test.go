//go:build linux && netlab

package device_test

import (
	"fmt"
	"testing"
	"time"

	"culvert/bench/netlab/device"
)

// On its own LAN the SNMP agent answers every question over UDP.
func TestSNMPOnLAN(t *testing.T) {
	p := newPremises(t)
	agent, err := device.StartSNMP(t.Context(), p.printer, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	at := fmt.Sprintf("%s:%d", p.printer.Addr(), device.SNMPPort)
	for range 10 {
		if _, err := device.GetSNMP(t.Context(), p.desk, at, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := device.WalkSNMP(t.Context(), p.desk, at); err != nil || n < 5 {
		t.Errorf("a walk found %d variables, %v", n, err)
	}
	if _, err := device.GetSNMP(t.Context(), p.desk, "192.168.50.20:162", 2*time.Second); err == nil {
		t.Error("a port at which nobody listens answers")
	}
}

// On its own LAN the camera's film plays whole and in its own time.
func TestCameraOnLAN(t *testing.T) {
	p := newPremises(t)
	camera, err := device.StartCamera(t.Context(), p.printer, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer camera.Close()
	at := device.StreamURI(fmt.Sprintf("%s:%d", p.printer.Addr(), device.RTSPPort))
	v, err := device.Play(t.Context(), p.desk, at, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Log(v)
	if want := 3 * device.FrameRate; v.Frames < want-1 || v.Frames > want+1 || len(v.Errors) > 0 {
		t.Errorf("%s, want %d frames: %v", v, want, v.Errors)
	}
	camera.Close()
	if _, err := device.Play(t.Context(), p.desk, at, time.Second); err == nil {
		t.Error("a camera that is off plays")
	}
}
