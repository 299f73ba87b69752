package tunnel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"culvert/protocol"
	"culvert/tunnel/link"
)

// serveDatagrams carries one flow of datagrams to the device. The flow counts as answered as soon as the guard has agreed:
// there is nothing to ask a UDP port that every device would understand.
func (m *Manager) serveDatagrams(ctx context.Context, a Ask, f *link.Flow) (int64, error) {
	if err := m.enterUDP(a.Requester.ID); err != nil {
		return 0, err
	}
	defer m.leaveUDP(a.Requester.ID)
	conn, err := m.dialer.connectUDP(ctx, a)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := f.Accept(); err != nil {
		return 0, nil // the asker has left
	}
	device := socketDatagrams{conn}
	var moved atomic.Int64 // when something did last, in nanoseconds since began
	began := time.Now()
	touch := func() { moved.Store(int64(time.Since(began))) }
	var failure error
	var once sync.Once
	fail := func(err error) { // of the device
		once.Do(func() {
			failure = err
			reason, text := toReason(err)
			f.Reset(reason, text)
		})
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, link.MaxDatagram+1)
		for {
			_ = conn.SetReadDeadline(time.Now().Add(m.cfg.IdleDatagram))
			n, err := device.Receive(b)
			switch {
			case errors.Is(err, os.ErrDeadlineExceeded):
				if time.Since(began)-time.Duration(moved.Load()) < m.cfg.IdleDatagram {
					continue
				}
				flowDatagrams{f}.End(true)
				return
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil:
				fail(err)
				return
			}
			touch()
			if f.SendDatagram(b[:n]) != nil {
				return
			}
		}
	})
	b := make([]byte, link.MaxDatagram)
	for {
		n, err := f.ReceiveDatagram(b)
		if err != nil {
			flowDatagrams{f}.End(true)
			break
		}
		touch()
		if err := device.Send(b[:n]); err != nil {
			fail(err)
			break
		}
	}
	_ = conn.Close()
	wg.Wait()
	return f.Moved(), failure
}

// enterUDP takes a place among the flows of datagrams of a peer. They are fewer than connections may be: a socket that sends
// needs no device that takes it.
func (m *Manager) enterUDP(peer protocol.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.udpFlows[peer] >= m.cfg.Limits.Sources {
		return fmt.Errorf("%w: flows of datagrams", ErrLimit)
	}
	m.udpFlows[peer]++
	return nil
}

func (m *Manager) leaveUDP(peer protocol.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.udpFlows[peer]--; m.udpFlows[peer] == 0 {
		delete(m.udpFlows, peer)
	}
}
