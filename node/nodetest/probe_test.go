package nodetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	client "culvert/node/enrol"
	"culvert/protocol"
	"culvert/protocol/endpoint"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// probe is one identity with a socket of its own: what it sends, no agent would. One goroutine at a time.
type probe struct {
	t       testing.TB
	id      protocol.ID
	keys    *key.Pair
	record  []byte
	trust   *protocol.Trust
	secrets *protocol.DomainSecrets
	ep      *endpoint.Endpoint
	conn    *net.UDPConn
	out     endpoint.Outbox
	seen    func(from netip.AddrPort, datagram []byte) // of every datagram that comes in; may be nil
	sent    func(to netip.AddrPort, datagram []byte)   // of every datagram that goes out; may be nil
	asked   map[[8]byte]bool                           // message IDs of the signed Pings of answers
	pings   int                                        // sealed ones sent by answers and not answered yet
}

// probe enrols a new identity over HTTPS.
func (m *mesh) probe(domain string, sessions bool) *probe {
	m.t.Helper()
	return m.probeBy(m.token(domain, 1), sessions)
}

func (m *mesh) probeBy(token string, sessions bool) *probe {
	t := m.t
	t.Helper()
	tok := must[enrol.Token](t)(enrol.ParseToken(token))
	keys := must[*key.Pair](t)(key.Generate(rand.Reader))
	c := client.New(client.Config{Address: tok.Address, Root: tok.Root})
	defer c.Close()
	var got *client.Membership
	eventually(t, "the operator answers", func() bool {
		var err error
		if got, err = c.Join(t.Context(), tok, keys, "probe"); !errors.Is(err, client.ErrUnreachable) {
			noError(t, err)
		}
		return err == nil
	})
	secrets := must[*protocol.DomainSecrets](t)(got.Secrets.At(time.Now()))
	return newProbe(t, got.Node.ID, keys, got.Node.Record, got.Trust, secrets, sessions)
}

// probeAs speaks with the keys of an agent: signed, so that the agent's own sessions are left alone.
func (m *mesh) probeAs(a *agent, domainID string) *probe {
	t := m.t
	t.Helper()
	dir := filepath.Join(a.dir, "memberships", domainID)
	keys := must[*key.Pair](t)(key.Load(filepath.Join(dir, "node.key")))
	var f struct {
		Certificate []byte        `json:"certificate"`
		Secrets     enrol.Secrets `json:"secrets"`
		Bundle      enrol.Bundle  `json:"bundle"`
	}
	noError(t, json.Unmarshal(must[[]byte](t)(os.ReadFile(filepath.Join(dir, "membership.json"))), &f))
	trust := must[*protocol.Trust](t)(f.Bundle.Trust(protocol.Hash(key.Public(f.Bundle.RootKey).Hash()), time.Now()))
	secrets := must[*protocol.DomainSecrets](t)(f.Secrets.At(time.Now()))
	d := must[protocol.Domain](t)(protocol.ParseDomain(domainID))
	return newProbe(t, protocol.NodeID(d, keys.Signing.Public()), keys, f.Certificate, trust, secrets, false)
}

func newProbe(t testing.TB, id protocol.ID, keys *key.Pair, record []byte, trust *protocol.Trust, secrets *protocol.DomainSecrets, sessions bool) *probe {
	t.Helper()
	p := &probe{t: t, id: id, keys: keys, record: record, trust: trust, secrets: secrets}
	p.ep = must[*endpoint.Endpoint](t)(endpoint.New(endpoint.Config{Rand: rand.Reader, Sessions: sessions}))
	noError(t, p.ep.AddIdentity(endpoint.Identity{ID: id, Keys: keys, Record: record, Trust: trust}))
	p.conn = must[*net.UDPConn](t)(net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))
	t.Cleanup(p.close)
	return p
}

func (p *probe) close() { p.conn.Close() }

// certified is the agent as others talk to it.
func (a *agent) peer() protocol.Peer { return a.peerIn("") }

func (a *agent) peerIn(domain string) protocol.Peer {
	a.t.Helper()
	m := a.member(domain)
	keys := must[*key.Pair](a.t)(key.Load(filepath.Join(a.dir, "memberships", m.DomainID, "node.key")))
	id := must[protocol.ID](a.t)(protocol.ParseID(m.NodeID))
	return protocol.Peer{ID: id, Signing: keys.Signing.Public(), Sealing: keys.Sealing.Public(), Addr: a.addr()}
}

// operatorPeer is the operator as others talk to it.
func (m *mesh) operatorPeer() protocol.Peer {
	keys, _, _ := m.op.Identity()
	return protocol.Peer{ID: protocol.NodeID(protocol.OperatorDomain, keys.Signing.Public()), Signing: keys.Signing.Public(),
		Sealing: keys.Sealing.Public(), Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), m.port)}
}

func (p *probe) flush() error {
	for _, k := range p.out.Packets() {
		if p.sent != nil {
			p.sent(k.Addr, k.Data)
		}
		if _, err := p.conn.WriteToUDPAddrPort(k.Data, k.Addr); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			var op *net.OpError
			if !errors.As(err, &op) || errors.Is(err, net.ErrClosed) {
				return err
			}
		}
	}
	p.out.Reset()
	return nil
}

// call asks and waits for the answer.
func (p *probe) call(ctx context.Context, to protocol.Peer, q protocol.Payload, timeout time.Duration) (*protocol.Verified, error) {
	payload, err := protocol.AppendPayload(nil, q)
	if err != nil {
		return nil, err
	}
	id, err := p.ep.Call(time.Now(), p.id, to, q.Command(), payload, timeout, &p.out)
	if err != nil {
		return nil, err
	}
	var (
		ev  endpoint.Event
		evs []endpoint.Event
		buf [1500]byte
	)
	for {
		if err := p.flush(); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			p.ep.Cancel(id)
			return nil, ctx.Err()
		}
		if err := p.conn.SetReadDeadline(earlier(p.ep.Next(), time.Now().Add(50*time.Millisecond))); err != nil {
			return nil, err
		}
		n, from, err := p.conn.ReadFromUDPAddrPort(buf[:])
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		if err == nil {
			if p.seen != nil {
				p.seen(from, buf[:n])
			}
			p.ep.Receive(time.Now(), from, buf[:n], &ev, &p.out)
			for ok := true; ok; ok = p.ep.More(time.Now(), &ev, &p.out) {
				if ev.Kind == endpoint.EventCallDone && ev.Call == id {
					return ev.Verified.Clone(), nil
				}
			}
		}
		for _, e := range p.ep.Tick(time.Now(), evs[:0], &p.out) {
			if e.Call == id {
				return nil, e.Err
			}
		}
	}
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// list asks for records.
func (p *probe) list(to protocol.Peer, q protocol.Payload) ([][]byte, error) {
	v, err := p.call(context.Background(), to, q, 2*time.Second)
	if err != nil {
		return nil, err
	}
	l, err := protocol.ParseRecordList(v.Payload)
	return l.Records, err
}

// listed asks for records until there is an answer.
func (p *probe) listed(to protocol.Peer, q protocol.Payload) (l [][]byte) {
	p.t.Helper()
	eventually(p.t, to.ID.Short()+" answers "+q.Command().String(), func() bool {
		var err error
		l, err = p.list(to, q)
		return err == nil
	})
	return l
}

// nodeInfo opens the sealed value of a NodeInfo record.
func (p *probe) nodeInfo(raw []byte) (v protocol.NodeInfoValue, err error) {
	r, err := protocol.ParseRecord(raw)
	if err != nil {
		return v, err
	}
	plain, err := p.secrets.OpenValue(r.Table, r.Owner, r.Value)
	if err != nil {
		return v, err
	}
	return v, protocol.Unmarshal(plain, &v)
}

// info signs a NodeInfo of the probe's own with the given sequence.
func (p *probe) info(seq uint64, v protocol.NodeInfoValue) ([]byte, error) {
	plain, err := protocol.Marshal(v)
	if err != nil {
		return nil, err
	}
	r := &protocol.Record{Table: protocol.TableNodeInfo, Owner: p.id, Signer: p.id, Sequence: seq,
		Issued: time.Now(), Expires: time.Now().Add(10 * time.Minute)}
	for _, l := range v.Locations {
		r.Lookups = append(r.Lookups, p.secrets.LocationKey(l))
	}
	if r.Value, err = p.secrets.SealValue(rand.Reader, r.Table, r.Owner, plain); err != nil {
		return nil, err
	}
	return protocol.SignRecord(r, p.keys.Signing)
}

// put stores a record under its owner's key and returns how it was taken.
func (p *probe) put(ctx context.Context, to protocol.Peer, k protocol.ID, raw []byte, timeout time.Duration) (protocol.Stored, error) {
	v, err := p.call(ctx, to, protocol.Put{Key: k, Record: raw}, timeout)
	if err != nil {
		return protocol.Stored{}, err
	}
	if v.Command != protocol.CmdStored {
		return protocol.Stored{}, errors.New("answered " + v.Command.String())
	}
	return protocol.ParseStored(v.Payload)
}

// signed makes a signed message as of a time, without sending it.
func (p *probe) signed(at time.Time, to protocol.Peer, q protocol.Payload) []byte {
	p.t.Helper()
	payload := must[[]byte](p.t)(protocol.AppendPayload(nil, q))
	return must[[]byte](p.t)(p.ep.SealSigned(at, p.id, to, q.Command(), payload))
}

// write sends bytes as they are.
func (p *probe) write(to protocol.Peer, b []byte) {
	p.t.Helper()
	must[int](p.t)(p.conn.WriteToUDPAddrPort(b, to.Addr))
}
