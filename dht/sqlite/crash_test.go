package sqlite

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"culvert/dht/storetest"
	"culvert/protocol"
)

const crashEnv = "CULVERT_CRASH_DB"

// TestCrashChild is the process that dies: it stores for as long as it lives and says what was acknowledged.
func TestCrashChild(t *testing.T) {
	path := os.Getenv(crashEnv)
	if path == "" {
		return // it is only something when TestKilled runs it
	}
	w := storetest.NewWorld(t)
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range 4 {
		n := w.Node(7, fmt.Sprint("crash ", i))
		wg.Go(func() {
			v, _, _ := s.Version(protocol.TableNodeInfo, n.ID)
			for q := v.Sequence + 1; ; q++ {
				r, err := protocol.ParseRecord(w.Info(n, q, storetest.Start))
				if err == nil {
					_, err = s.Put(context.Background(), []*protocol.Record{r})
				}
				own, serr := s.NextSequence(context.Background(), protocol.TableNodeInfo, n.ID, 0)
				if err != nil || serr != nil {
					t.Error(err, serr)
					return
				}
				mu.Lock()
				fmt.Printf("ack %d %d %d\n", i, q, own)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestKilled(t *testing.T) {
	w := storetest.NewWorld(t)
	path := filepath.Join(t.TempDir(), "node.db")
	var acked, own [4]uint64
	for round := range 5 {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashChild$")
		c.Env = append(os.Environ(), crashEnv+"="+path)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		sc := bufio.NewScanner(out)
		for lines := 0; sc.Scan(); lines++ {
			var i int
			var q, o uint64
			if _, err := fmt.Sscanf(sc.Text(), "ack %d %d %d", &i, &q, &o); err == nil {
				acked[i], own[i] = max(acked[i], q), max(own[i], o)
			}
			if lines == 40+round*17 {
				if err := c.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := c.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
		s, err := Open(t.Context(), path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range acked {
			n := w.Node(7, "crash "+strconv.Itoa(i))
			raw, err := s.Get(protocol.TableNodeInfo, n.ID, storetest.Start)
			if acked[i] == 0 {
				continue
			}
			if err != nil || storetest.Parse(t, raw).Sequence < acked[i] {
				t.Errorf("round %d: writer %d lost %d: %v", round, i, acked[i], err)
			}
			if q, err := s.NextSequence(t.Context(), protocol.TableNodeInfo, n.ID, 0); err != nil || q <= own[i] {
				t.Errorf("round %d: own sequence %d after %d: %v", round, q, own[i], err)
			} else {
				own[i] = q
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if acked == [4]uint64{} {
		t.Error("nothing was acknowledged")
	}
}
