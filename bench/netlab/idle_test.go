//go:build linux && netlab

package netlab

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"culvert/bench/netlab/lab"
)

const (
	// idleMemory is what an agent may have resident that does nothing but hold its place (PERF).
	idleMemory = 25 << 20
	// idleShare is what it may take of one core.
	idleShare = 0.001
)

// An agent behind a home router that nobody asks anything: what it holds in
// memory and takes of a core once it has settled. The short version's window is
// too short to judge the core by, and prints it only.
func TestIdleAgent(t *testing.T) {
	warm, window := 15*time.Second, 10*time.Second
	if full() {
		// Until then it has found out for how long the NAT keeps a binding, and that no router here opens ports.
		warm, window = 6*time.Minute, 4*time.Minute
	}
	s := newStage(t, "")
	site := s.site(t, premises("branch", lab.PortRestricted, "45.55.0.2/24", "192.168.50.1/24"))
	desk := s.agent(t, s.host(t, site, "branch-desk", "192.168.50.10"))
	s.member(t, desk, customer)
	ctx := s.within(t, warm+window+settle)
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		}
	}
	wait(warm)
	before, err := ranFor(desk.PID())
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	wait(window)
	after, err := ranFor(desk.PID())
	if err != nil {
		t.Fatal(err)
	}
	share := float64(after-before) / float64(time.Since(began))
	memory, err := restingMemory(ctx, desk.PID())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("an idle agent has %.1f MiB resident and takes %.3f%% of a core, over %s", float64(memory)/(1<<20), 100*share, window)
	if memory > idleMemory {
		t.Errorf("%.1f MiB resident, at most %d MiB are allowed", float64(memory)/(1<<20), idleMemory>>20)
	}
	if full() && share > idleShare {
		t.Errorf("%.3f%% of a core over %s, at most %.1f%% are allowed", 100*share, window, 100*idleShare)
	}
}

// ranFor is the time that all threads of a process have had on a core.
func ranFor(pid int) (time.Duration, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, task := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", pid, task.Name()))
		if err != nil {
			continue // the thread has ended
		}
		ns, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// restingMemory is what a process has resident once that is what an agent may
// have: a slow machine's has settled later. What never comes down is returned
// as it is.
func restingMemory(ctx context.Context, pid int) (int64, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		memory, err := resident(pid)
		if err != nil || memory <= idleMemory || ctx.Err() != nil {
			return memory, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// resident is a process's memory that is in RAM, in bytes.
func resident(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("process %d says nothing of its memory", pid)
}
