package dht

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// A snapshot brings many records over a stream whose ends have proved who they are, one request after another:
//
//	request  length 2 ‖ Repair
//	answer   (length 2 ‖ record)…  then 0 2 ‖ 1 for all of it, 0 for refused
//
// Records are the signed bytes; whoever fetches proves each by Apply. A certificate that lies outside of what the asker keeps
// comes before the NodeInfo that rests on it. Nothing is kept between requests: after a break the digests tell what is left.

const (
	maxSnapshotRequest = 256
	snapshotPage       = 256
)

var (
	// ErrSnapshot marks a stream that is no sound snapshot.
	ErrSnapshot = errors.New("dht: unsound snapshot")
	// ErrSnapshotRefused marks a range that the peer does not give out.
	ErrSnapshotRefused = errors.New("dht: snapshot refused")
)

// ServeSnapshots answers the requests of a member until it ends the stream. Its pace is the reader's.
func (s *Server) ServeSnapshots(rw io.ReadWriter, member protocol.ID, now func() time.Time) error {
	in, out := bufio.NewReaderSize(rw, maxSnapshotRequest), bufio.NewWriterSize(rw, 32<<10)
	for {
		var head [2]byte
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		n := binary.BigEndian.Uint16(head[:])
		if n > maxSnapshotRequest {
			return fmt.Errorf("%w: request of %d bytes", ErrSnapshot, n)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(in, b); err != nil {
			return err
		}
		q, err := protocol.ParsePayload[protocol.Repair](b)
		if err != nil || q.Table == 0 || q.Table >= protocol.TableEnd || q.From > q.To {
			s.count.add(dropMalformed)
			return fmt.Errorf("%w: request", ErrSnapshot)
		}
		end := []byte{0, 0, 1}
		if s.Revoked(member) || !s.replicates(member) || !s.compares(member, q.Table, q.From, q.To, true) {
			s.count.add(dropOutside)
			end[2] = 0
		} else if err := s.writeSnapshot(out, member, q, now()); err != nil {
			return err
		}
		if _, err := out.Write(end); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
}

func (s *Server) writeSnapshot(out *bufio.Writer, member protocol.ID, m protocol.Repair, now time.Time) error {
	var keeps []partition.Range
	if pm := s.Map(); pm != nil {
		if mem, ok := pm.Member(member); ok {
			keeps = merged(mem.Range, mem.Fill)
		}
	}
	q := Query{Table: m.Table, By: ByPosition, From: m.From, To: m.To, After: m.After, Now: now}
	var items [snapshotPage]Item
	for {
		n, err := s.cfg.Store.Select(q, items[:])
		if err != nil {
			return err
		}
		for _, it := range items[:n] {
			if at := it.Owner.Position(); m.Table == protocol.TableNodeInfo && !within(keeps, at, at) {
				if cert, err := s.cfg.Store.Get(protocol.TableNode, it.Owner, now); err == nil {
					if err := writeSnapshotRecord(out, cert); err != nil {
						return err
					}
				}
			}
			if err := writeSnapshotRecord(out, it.Raw); err != nil {
				return err
			}
		}
		if n < len(items) {
			return nil
		}
		q.After = items[n-1].Owner
	}
}

func writeSnapshotRecord(out *bufio.Writer, raw []byte) error {
	var head [2]byte
	binary.BigEndian.PutUint16(head[:], uint16(len(raw)))
	if _, err := out.Write(head[:]); err != nil {
		return err
	}
	_, err := out.Write(raw)
	return err
}

// FetchSnapshot asks for a range and hands the records on in batches. Who has asked for most records is not sent more.
func FetchSnapshot(rw io.ReadWriter, in *bufio.Reader, q protocol.Repair, most uint64, take func([][]byte) error) error {
	b, err := protocol.AppendPayload(make([]byte, 2, maxSnapshotRequest), q)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)-2))
	if _, err := rw.Write(b); err != nil {
		return err
	}
	var batch [][]byte
	for count := uint64(0); ; count++ {
		var head [2]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint16(head[:]))
		if n == 0 {
			end, err := in.ReadByte()
			if err == nil && end != 1 {
				err = ErrSnapshotRefused
			}
			return errors.Join(take(batch), err)
		}
		if n > protocol.MaxRecord || count >= most {
			return fmt.Errorf("%w: record %d of %d bytes", ErrSnapshot, count, n)
		}
		raw := make([]byte, n)
		if _, err := io.ReadFull(in, raw); err != nil {
			return err
		}
		if batch = append(batch, raw); len(batch) == applyBatch {
			if err := take(batch); err != nil {
				return err
			}
			batch = nil
		}
	}
}
