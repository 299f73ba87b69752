package crew

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

// run has so many tasks run at once, and returns when the crew has taken all of their goroutines back that it keeps.
func run(c *Crew, n int) {
	var started, done sync.WaitGroup
	started.Add(n)
	for range n {
		done.Add(1)
		c.Go(func() {
			started.Done()
			started.Wait()
			done.Done()
		})
	}
	done.Wait()
	for c.waiting() < min(n, most) {
		runtime.Gosched()
	}
}

func (c *Crew) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.idle)
}

func TestGoroutinesAreKept(t *testing.T) {
	var c Crew
	defer c.Close()
	run(&c, 5)
	c.mu.Lock()
	kept := append([]chan func(){}, c.idle...)
	c.mu.Unlock()
	ran := make(chan bool)
	c.Go(func() { ran <- true })
	<-ran
	for c.waiting() < 5 {
		runtime.Gosched()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, worker := range c.idle {
		if worker != kept[i] {
			t.Error("another goroutine")
		}
	}
}

func TestNoMoreAreKeptThanMost(t *testing.T) {
	var c Crew
	run(&c, 3*most)
	if n := c.waiting(); n != most {
		t.Errorf("%d wait", n)
	}
	c.Close()
	if n := c.waiting(); n != 0 {
		t.Errorf("%d wait after Close", n)
	}
}

// Those go home that nobody has needed between two rests.
func TestRest(t *testing.T) {
	var c Crew
	run(&c, 10)
	c.Rest()
	if n := c.waiting(); n != 10 {
		t.Errorf("%d wait after the first rest", n)
	}
	run(&c, 4)
	for c.waiting() < 10 {
		runtime.Gosched()
	}
	c.Rest()
	if n := c.waiting(); n != 4 {
		t.Errorf("%d wait, where 4 were needed", n)
	}
	c.Rest()
	if n := c.waiting(); n != 0 {
		t.Errorf("%d wait, where none was needed", n)
	}
	c.Close()
}

func TestCloseWaitsForEverybody(t *testing.T) {
	var c Crew
	var ended atomic.Int32
	may := make(chan struct{})
	for range 100 {
		c.Go(func() {
			<-may
			c.Go(func() { ended.Add(1) })
			ended.Add(1)
		})
	}
	close(may)
	c.Close()
	if n := ended.Load(); n != 200 {
		t.Errorf("%d of 200 have ended", n)
	}
}

// A task that begins while Close waits, or after, is as good as any; it is kept no more.
func TestTasksAtTheEnd(t *testing.T) {
	var c Crew
	may, closed := make(chan struct{}), make(chan struct{})
	c.Go(func() { <-may })
	go func() {
		c.Close()
		close(closed)
	}()
	var ended sync.WaitGroup
	close(may)
	for range 200 {
		ended.Add(1)
		c.Go(ended.Done)
		runtime.Gosched()
	}
	ended.Wait()
	c.Close()
	<-closed
	if n := c.waiting(); n != 0 {
		t.Errorf("%d wait after Close", n)
	}
}
