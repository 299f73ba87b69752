package protocol

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
	"time"
)

func numbered(n int) ID {
	var h Hash
	binary.BigEndian.PutUint64(h[:], uint64(n))
	return NewID(7, h)
}

func TestReplayRefusesTheSameTwice(t *testing.T) {
	r := NewReplay(10, 100)
	must(t, r.Accept(sampleTime, numbered(1), sampleTime, 5))
	if err := r.Accept(sampleTime, numbered(1), sampleTime, 5); !errors.Is(err, ErrReplayed) {
		t.Errorf("same again: %v", err)
	}
	if err := r.Accept(sampleTime, numbered(1), sampleTime.Add(time.Second), 5); !errors.Is(err, ErrReplayed) {
		t.Errorf("same ID, other time: %v", err)
	}
	must(t, r.Accept(sampleTime, numbered(2), sampleTime, 5))
	if !r.Seen(numbered(1), sampleTime, 5) || r.Seen(numbered(1), sampleTime, 6) || r.Seen(numbered(3), sampleTime, 5) {
		t.Error("Seen")
	}
}

// TestReplayModel sends fresh messages out of order and replays, with and without jumps of the clock, and keeps count of what
// was accepted: nothing is ever accepted twice, and nothing new is refused while the clock runs evenly.
func TestReplayModel(t *testing.T) {
	for _, jumps := range []bool{false, true} {
		if refused := replayModel(t, jumps); !jumps && refused > 0 {
			t.Errorf("%d new messages refused", refused)
		}
	}
}

func replayModel(t *testing.T, jumps bool) (refused int) {
	type msg struct {
		sender int
		at     time.Time
		id     uint64
	}
	rng := rand.New(rand.NewPCG(3, 4))
	r := NewReplay(64, 64*ReplayIDs)
	accepted := make(map[msg]bool)
	var sent []msg
	now := sampleTime
	for range 60000 {
		switch k := rng.IntN(2000); {
		case jumps && k == 0:
			now = now.Add(-time.Duration(rng.IntN(300)) * time.Second)
		case jumps && k == 1:
			now = now.Add(time.Duration(rng.IntN(400)) * time.Second)
		}
		now = now.Add(time.Duration(rng.IntN(40)) * time.Millisecond)
		m := msg{rng.IntN(40), now.Add(-time.Duration(rng.IntN(2000)) * time.Millisecond).Truncate(time.Millisecond), rng.Uint64()}
		if len(sent) > 0 && rng.IntN(3) == 0 {
			m = sent[max(0, len(sent)-1-rng.IntN(3000))]
		}
		sent = append(sent, m)
		if !Fresh(now, m.at) {
			continue
		}
		seen := r.Seen(numbered(m.sender), m.at, m.id)
		err := r.Accept(now, numbered(m.sender), m.at, m.id)
		if err == nil && accepted[m] {
			t.Fatalf("%+v accepted twice", m)
		}
		if seen && err == nil {
			t.Fatal("Seen and Accept disagree")
		}
		if err == nil {
			accepted[m] = true
		} else if !accepted[m] {
			refused++
		}
	}
	return refused
}

func TestReplayFloorAfterManyIDs(t *testing.T) {
	r := NewReplay(10, 10*ReplayIDs)
	for i := range ReplayIDs + 1 {
		must(t, r.Accept(sampleTime.Add(2*time.Second), numbered(1), sampleTime.Add(time.Duration(i)*time.Millisecond), uint64(i)))
	}
	if err := r.Accept(sampleTime, numbered(1), sampleTime, 0); !errors.Is(err, ErrReplayed) {
		t.Errorf("forgotten ID accepted again: %v", err)
	}
	if err := r.Accept(sampleTime, numbered(1), sampleTime, 1<<40); !errors.Is(err, ErrReplayed) {
		t.Errorf("new ID below the floor: %v", err)
	}
	must(t, r.Accept(sampleTime, numbered(1), sampleTime.Add(3*time.Second), 1<<41))
}

func TestReplayNeverForgetsLiveSenders(t *testing.T) {
	r := NewReplay(100, 100*ReplayIDs)
	for i := range 100 {
		must(t, r.Accept(sampleTime, numbered(i), sampleTime, 1))
	}
	if err := r.Accept(sampleTime.Add(time.Minute), numbered(100), sampleTime.Add(time.Minute), 1); !errors.Is(err, ErrSenderTable) {
		t.Errorf("one sender too many: %v", err)
	}
	for i := range 100 {
		if !r.Seen(numbered(i), sampleTime, 1) {
			t.Fatalf("sender %d forgotten", i)
		}
	}
	later := sampleTime.Add(MaxSkew + 2*time.Second)
	must(t, r.Accept(later, numbered(100), later, 1))
	if n := r.Senders(); n != 1 {
		t.Errorf("%d senders kept", n)
	}
	// Should the clock be set back now, what was forgotten stays out.
	if err := r.Accept(sampleTime, numbered(5), sampleTime, 1); !errors.Is(err, ErrReplayed) {
		t.Errorf("after the clock was set back: %v", err)
	}
}

func TestReplayBoundsAllIDs(t *testing.T) {
	r := NewReplay(1000, 50)
	for i := range 50 {
		must(t, r.Accept(sampleTime, numbered(1), sampleTime.Add(time.Duration(i)*time.Millisecond), uint64(i)))
	}
	if err := r.Accept(sampleTime, numbered(2), sampleTime, 1); !errors.Is(err, ErrSenderTable) {
		t.Errorf("no room for IDs: %v", err)
	}
	for i := range 50 { // the greedy sender pays itself
		must(t, r.Accept(sampleTime, numbered(1), sampleTime.Add(time.Second+time.Duration(i)*time.Millisecond), uint64(1000+i)))
	}
	if r.ids != 50 {
		t.Errorf("%d IDs kept", r.ids)
	}
	r.Sweep(sampleTime.Add(time.Hour))
	if r.ids != 0 || r.Senders() != 0 {
		t.Errorf("%d IDs of %d senders after an hour", r.ids, r.Senders())
	}
}
