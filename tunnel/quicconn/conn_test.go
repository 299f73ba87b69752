package quicconn

import (
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"
)

func BenchmarkStream(b *testing.B) {
	from, to := connect(b, newNode(b, 1), newNode(b, 2))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := from.Open(ctx)
	check(b, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		in, err := to.Accept(ctx)
		if err == nil {
			_, _ = io.Copy(io.Discard, in)
			_ = in.Close()
		}
	})
	piece := make([]byte, 64<<10)
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		_, err := out.Write(piece)
		check(b, err)
	}
	_ = out.Close()
	wg.Wait()
	_, _ = from.Close(), to.Close()
}

func TestLargeStream(t *testing.T) {
	from, to := connect(t, newNode(t, 1), newNode(t, 2))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := from.Open(ctx)
	check(t, err)
	data := make([]byte, 32<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := out.Write(data); err != nil {
			t.Error(err)
		}
		_ = out.Close()
	})
	in, err := to.Accept(ctx)
	check(t, err)
	h := sha256.New()
	_, err = io.Copy(h, in)
	check(t, err)
	if [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		t.Error("other bytes came than were sent")
	}
	_ = in.Close()
	wg.Wait()
}
