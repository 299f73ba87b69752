package rawtcp

import (
	"bytes"
	"io"
	"testing"
)

const onlyHere = true // TryWrite does something

func TestLentOnlyWhenReadable(t *testing.T) {
	c, far := pair(t)
	l := &lender{buf: make([]byte, 8), asked: make(chan struct{}, 8)}
	got := make(chan int, 1)
	go func() {
		n, _ := c.ReadLent(l)
		got <- n
	}()
	<-l.asked // nothing was there, and nothing is held
	if _, err := far.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if n := <-got; n != 3 || string(l.buf[:3]) != "abc" || l.lent != l.returned+1 {
		t.Errorf("%d bytes, lent %d, returned %d", n, l.lent, l.returned)
	}
	_ = far.CloseWrite()
	if n, err := c.ReadLent(l); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

func TestTryWriteWaitsForNobody(t *testing.T) {
	c, far := pair(t)
	data, total := noise(1<<20), 0
	for { // until the socket takes no more
		n, err := c.TryWrite(data[total%len(data):])
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			break
		}
		total += n
	}
	c.out.mu.Lock() // as a writer does who waits
	if n, err := c.TryWrite([]byte("between")); n != 0 || err != nil {
		t.Errorf("%d, %v while another writes", n, err)
	}
	c.out.mu.Unlock()
	last := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte("last"))
		last <- err
	}()
	got := make([]byte, total+4)
	if _, err := io.ReadFull(far, got); err != nil {
		t.Fatal(err)
	}
	if err := <-last; err != nil {
		t.Error(err)
	}
	var want []byte
	for len(want) < total {
		want = append(want, data...)
	}
	if !bytes.Equal(got, append(want[:total], "last"...)) {
		t.Error("other bytes")
	}
}
