//go:build tmpfs

package nodetest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/operator"
	"culvert/protocol"
)

// smallDisk mounts a file system that is soon full; only root may.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	noError(t, os.Mkdir(dir, 0o700))
	noError(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m,mode=0700"))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// stuff takes all the room there is; the return value gives it back.
func stuff(t *testing.T, dir string) (room func()) {
	t.Helper()
	path := filepath.Join(dir, "stuffing")
	f := must[*os.File](t)(os.Create(path))
	defer f.Close()
	for n := 1 << 20; n > 0; {
		if _, err := f.Write(make([]byte, n)); errors.Is(err, syscall.ENOSPC) {
			n /= 2
		} else {
			noError(t, err)
		}
	}
	return func() { noError(t, os.Remove(path)) }
}

// A real file system has no room left under a super-node and an operator: what they have is served, what is new refused, one line
// of the log says why, and with room again both go on as the same processes.
func TestFullFileSystem(t *testing.T) {
	disk := smallDisk(t)
	m := newMeshAs(t, func(m *mesh) { m.dir = disk }, "acme")
	log := &said{}
	super := m.superProcessSaying("super", "acme", log)
	user := m.agent("desk", "acme", nil)
	must[operator.DeviceView](t)(m.op.AddDevice(t.Context(), admin, operator.DeviceSpec{Name: "first", Domain: "acme", Node: user.id("").String(), Ports: []string{"9100"}}))
	user.sees("first")
	to := super.peer()
	w := &writer{probe: m.probe("acme", true)}
	store := func() protocol.Status {
		w.tried++
		raw := must[[]byte](t)(w.info(w.tried, protocol.NodeInfoValue{Name: "writer"}))
		var st protocol.Stored
		eventually(t, "a store is answered", func() bool {
			var err error
			st, err = w.put(t.Context(), to, w.id, raw, 2*time.Second)
			return err == nil && st.Status != protocol.StatusLimit
		})
		if st.Status == protocol.StatusOK {
			w.acked = w.tried
		}
		return st.Status
	}
	if st := store(); st != protocol.StatusOK {
		t.Fatalf("store with room: %s", st)
	}
	room := stuff(t, disk)
	eventually(t, "a store is refused", func() bool { return store() == protocol.StatusInternal })
	for range 20 {
		store()
	}
	noError(t, w.check(to))
	if l, err := user.api.Devices(t.Context(), client.DeviceQuery{Refresh: true}); err != nil || len(l) != 1 {
		t.Errorf("lookup without room: %v %v", l, err)
	}
	if n := log.count("the database cannot be written"); n != 1 {
		t.Errorf("%d lines of the log say that the disk is full", n)
	}
	var last error
	eventually(t, "the operator refuses", func() bool {
		_, last = m.op.CreateToken(t.Context(), admin, operator.TokenSpec{Domain: "acme"})
		return last != nil
	})
	if !errors.Is(last, operator.ErrNoRoom) {
		t.Errorf("the operator without room: %v", last)
	}
	must[[]operator.DomainView](t)(m.op.Domains(t.Context(), admin))

	// Killed and started anew without room, it serves what it has.
	super.kill()
	super.start()
	super.serving()
	noError(t, w.check(to))

	room()
	eventually(t, "stores are taken again", func() bool { return store() == protocol.StatusOK })
	noError(t, w.check(to))
	must[operator.DeviceView](t)(m.op.AddDevice(context.Background(), admin, operator.DeviceSpec{Name: "second", Domain: "acme", Node: user.id("").String(), Ports: []string{"9100"}}))
	user.sees("second")
	super.kill()
	whole(t, filepath.Join(super.dir, "node.db"))
}
