//go:build linux && netlab

package netlab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"culvert/bench/netlab/device"
	"culvert/bench/netlab/mesh"
)

// stream is n reproducible random bytes, in which no piece repeats.
func stream(seed uint64, n int64) io.Reader {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return io.LimitReader(rand.NewChaCha8(key), n)
}

func payload(t *testing.T, seed uint64, n int64) []byte {
	t.Helper()
	b, err := io.ReadAll(stream(seed, n))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A duplex is a connection whose two directions end one by one.
type duplex interface {
	net.Conn
	CloseWrite() error
}

// send writes all of data, ends its side, and waits until the device has ended
// its own.
func send(ctx context.Context, conn duplex, data io.Reader) error {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.Copy(conn, data); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		return fmt.Errorf("%d bytes back from a printer: %w", len(rest), err)
	}
	return nil
}

// deliver sends n random bytes through a tunnel to a JetDirect port and checks
// what arrived.
func deliver(t *testing.T, ctx context.Context, tunnel mesh.Tunnel, to *device.Server, seed uint64, n int64) time.Duration {
	t.Helper()
	conn, err := tunnel.Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return deliverOver(t, ctx, conn, tunnel.Route, to, seed, n)
}

func deliverOver(t *testing.T, ctx context.Context, conn duplex, route string, to *device.Server, seed uint64, n int64) time.Duration {
	t.Helper()
	hash := sha256.New()
	began := time.Now()
	if err := send(ctx, conn, io.TeeReader(stream(seed, n), hash)); err != nil {
		t.Fatalf("send %d bytes by %s: %v", n, route, err)
	}
	job := nextJob(t, ctx, to)
	if job.Err != nil || job.Bytes != n || job.SHA256 != [sha256.Size]byte(hash.Sum(nil)) {
		t.Fatalf("by %s: %d of %d bytes arrived with SHA-256 %x, sent was %x (%v)",
			route, job.Bytes, n, job.SHA256, hash.Sum(nil), job.Err)
	}
	took := time.Since(began)
	t.Logf("%d bytes by %s in %s: %.0f MB/s", n, route, took.Round(time.Millisecond), float64(n)/1e6/took.Seconds())
	return took
}

// nextJob is the device's next one with anything in it: an agent may have
// connected to see whether the device answers, and which key it has.
func nextJob(t *testing.T, ctx context.Context, at *device.Server) device.Job {
	t.Helper()
	for {
		select {
		case job := <-at.Jobs():
			if job.Bytes > 0 {
				return job
			}
		case <-ctx.Done():
			t.Fatalf("the device has not ended its job: %v", ctx.Err())
		}
	}
}

// A conversation is a connection to an echoing device that stays open.
type conversation struct{ conn net.Conn }

func converse(ctx context.Context, tunnel mesh.Tunnel) (*conversation, error) {
	conn, err := tunnel.Dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &conversation{conn}
	if err := c.say(ctx, "first words"); err != nil {
		return nil, fmt.Errorf("%w (close: %v)", err, conn.Close())
	}
	return c, nil
}

// say sends text and waits until it has come back.
func (c *conversation) say(ctx context.Context, text string) error {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(settle)
	}
	if err := c.conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(c.conn, text); err != nil {
		return err
	}
	back := make([]byte, len(text))
	if _, err := io.ReadFull(c.conn, back); err != nil {
		return err
	}
	if !bytes.Equal(back, []byte(text)) {
		return fmt.Errorf("said %q, heard %q", text, back)
	}
	return nil
}

func (c *conversation) close() error { return c.conn.Close() }
