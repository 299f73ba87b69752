package operator

import (
	"context"
	"testing"
	"time"

	"culvert/protocol"
)

func TestOutboxIsPushedAndKept(t *testing.T) {
	o, _, mesh := runningOperator(t)
	dev, err := o.AddDevice(t.Context(), admin, printer("p"))
	if err != nil {
		t.Fatal(err)
	}
	waiting := outbox(t, o)
	mesh.confirmed = 0
	if left := o.pushPass(t.Context(), mesh); left != waiting || outbox(t, o) != waiting {
		t.Errorf("%d left of %d", left, waiting)
	}
	mesh.confirmed = 1 // the operator is the only member of the map: enough
	if left := o.pushPass(t.Context(), mesh); left != 0 || outbox(t, o) != 0 {
		t.Errorf("%d left", left)
	}
	if len(mesh.epochs) == 0 || mesh.epochs[len(mesh.epochs)-1] != worldMap(t, o).Epoch() {
		t.Errorf("told of maps %v", mesh.epochs)
	}
	if mesh.record(protocol.TableEndDevice, dev.ID) == nil {
		t.Error("the device has not been pushed")
	}
	if err := o.RemoveDevice(t.Context(), admin, "p@acme"); err != nil {
		t.Fatal(err)
	}
	o.pushPass(t.Context(), mesh)
	if r := mesh.record(protocol.TableEndDevice, dev.ID); !r.Tombstone {
		t.Error("the removal has not been pushed")
	}
}

func TestRunPushesAtOnceAndStops(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	if err := o.Announce(t.Context(), 7700); err != nil {
		t.Fatal(err)
	}
	mesh := newMesh()
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- o.Run(ctx, mesh) }()
	<-mesh.published
	dev, err := o.AddDevice(t.Context(), admin, printer("p"))
	if err != nil {
		t.Fatal(err)
	}
	limit := time.After(patience)
	for mesh.record(protocol.TableEndDevice, dev.ID) == nil {
		select {
		case <-mesh.published:
		case <-limit:
			t.Fatal("not pushed")
		}
	}
	p, err := o.Push(t.Context(), admin, "acme")
	if err != nil || p.Records != 1 || p.Waiting != 0 || p.Note != "" {
		t.Errorf("push %+v, %v", p, err)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if p, err = o.Push(t.Context(), admin, ""); err != nil || p.Waiting != 1 || p.Note == "" {
		t.Errorf("push while not running %+v, %v", p, err)
	}
}

func TestStaticRecordsAreAllThereAndVerify(t *testing.T) {
	o, _, _ := runningOperator(t)
	const devices = 1200 // more than two pages
	specs := make([]DeviceSpec, devices)
	for i := range specs {
		specs[i] = printer(string(rune('a'+i%26)) + time.Duration(i).String())
	}
	for i := range specs {
		specs[i].Name = "p" + specs[i].MAC[3:5] + specs[i].MAC[6:8] + specs[i].MAC[9:11] + specs[i].MAC[12:14] + specs[i].MAC[15:]
	}
	if _, err := o.AddDevices(t.Context(), admin, specs); err != nil {
		t.Fatal(err)
	}
	_, _, trust := o.Identity()
	count := make(map[protocol.Table]int)
	for raw, err := range o.StaticRecords(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		r, err := protocol.ParseRecord(raw)
		if err != nil {
			t.Fatal(err)
		}
		if r.Table != protocol.TableOperatorNode {
			if err := trust.CheckStatic(r, o.now()); err != nil {
				t.Fatal(err)
			}
		}
		count[r.Table]++
	}
	if count[protocol.TableEndDevice] != devices || count[protocol.TableOperatorNode] != 1 || count[protocol.TableMapHead] != 1 {
		t.Errorf("%v", count)
	}
}
