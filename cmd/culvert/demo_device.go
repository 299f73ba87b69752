package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
)

// demoDevice is the built-in printer: it takes jobs as port 9100 does, one a connection, and answers with the checksum of
// what it got. own is the reader's device instead.
type demoDevice struct {
	addr netip.AddrPort
	own  bool

	l  net.Listener
	wg sync.WaitGroup
}

// maxDemoJob bounds what the built-in printer reads.
const maxDemoJob = 64 << 20

func (d *demo) startDevice(own netip.AddrPort) (*demoDevice, error) {
	if own.IsValid() {
		d.say("device", "your own, at %s", own)
		return &demoDevice{addr: own, own: true}, nil
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	d.say("device", "a small built-in printer listens on %s", l.Addr())
	return serveDevice(l), nil
}

// listenIn runs the built-in printer on one of the network's hosts.
func (d *demo) listenIn(n *demoNet, host string) (*demoDevice, error) {
	var l net.Listener
	err := n.inside(host, func() (err error) {
		l, err = net.Listen("tcp4", ":9100")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", host, err)
	}
	return serveDevice(l), nil
}

func serveDevice(l net.Listener) *demoDevice {
	dev := &demoDevice{addr: l.Addr().(*net.TCPAddr).AddrPort(), l: l}
	dev.wg.Add(1)
	go dev.serve()
	return dev
}

func (dev *demoDevice) serve() {
	defer dev.wg.Done()
	for {
		c, err := dev.l.Accept()
		if err != nil {
			return
		}
		dev.wg.Add(1)
		go func() {
			defer dev.wg.Done()
			defer c.Close()
			h := sha256.New()
			n, err := io.Copy(h, io.LimitReader(c, maxDemoJob))
			if err == nil {
				fmt.Fprintf(c, "%d bytes, SHA-256 %x\n", n, h.Sum(nil))
			}
		}()
	}
}

func (dev *demoDevice) stop() {
	if dev.l != nil {
		dev.l.Close()
		dev.wg.Wait()
	}
}

// sendJob prints a job at a local address and returns what the printer answered.
func sendJob(ctx context.Context, addr string, job []byte) (string, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if t, ok := ctx.Deadline(); ok {
		c.SetDeadline(t)
	}
	if _, err := c.Write(job); err != nil {
		return "", err
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return "", errors.New("not a TCP connection")
	}
	if err := tcp.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(c, 4096))
	return string(answer), err
}
