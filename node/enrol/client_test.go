package enrol

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// authority is a small operator: a root, an operator beneath it, and a server with their certificates.
type authority struct {
	t      *testing.T
	root   *key.Signing
	op     *key.Pair
	record []byte
	server *httptest.Server
	mux    *http.ServeMux
	now    time.Time
}

func pair(t *testing.T) *key.Pair {
	t.Helper()
	p, err := key.Generate(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newAuthority(t *testing.T, host string) *authority {
	t.Helper()
	a := &authority{t: t, root: pair(t).Signing, op: pair(t), mux: http.NewServeMux(), now: time.Now()}
	value, err := protocol.Marshal(protocol.OperatorNodeValue{Signing: a.op.Signing.Public(), Sealing: a.op.Sealing.Public()})
	if err != nil {
		t.Fatal(err)
	}
	a.record = a.sign(&protocol.Record{
		Table: protocol.TableOperatorNode, Owner: protocol.NodeID(0, a.op.Signing.Public()), Signer: protocol.NodeID(0, a.root.Public()), Value: value,
	}, a.root)
	a.server = httptest.NewUnstartedServer(a.mux)
	a.server.TLS = &tls.Config{Certificates: []tls.Certificate{a.chain(host)}}
	a.server.StartTLS()
	t.Cleanup(a.server.Close)
	return a
}

func (a *authority) sign(r *protocol.Record, s *key.Signing) []byte {
	a.t.Helper()
	r.Epoch, r.Sequence, r.Issued, r.Expires = 1, 1, a.now.Add(-time.Hour), a.now.Add(time.Hour)
	b, err := protocol.SignRecord(r, s)
	if err != nil {
		a.t.Fatal(err)
	}
	return b
}

func (a *authority) chain(host string) tls.Certificate {
	a.t.Helper()
	issue := func(c, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
		a.t.Helper()
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), a.now.Add(-time.Hour), a.now.Add(24*time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, signer)
		if err != nil {
			a.t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			a.t.Fatal(err)
		}
		return out
	}
	ca := func() *x509.Certificate {
		return &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	rootCA := ca()
	rootCA.Subject.CommonName = "root"
	rootCert := issue(rootCA, rootCA, a.root.Signer().Public().(ed25519.PublicKey), a.root.Signer())
	opCA := ca()
	opCA.Subject.CommonName = "operator"
	opCert := issue(opCA, rootCert, a.op.Signing.Signer().Public(), a.root.Signer())
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, DNSNames: []string{host}}
	if ip := net.ParseIP(host); ip != nil {
		leaf.DNSNames, leaf.IPAddresses = nil, []net.IP{ip}
	}
	leafCert := issue(leaf, opCert, k.Public(), a.op.Signing.Signer())
	return tls.Certificate{Certificate: [][]byte{leafCert.Raw, opCert.Raw, rootCert.Raw}, PrivateKey: k}
}

func (a *authority) token() enrol.Token {
	return enrol.Token{Root: a.root.Public().Hash(), Secret: enrol.Secret{1}, Address: a.server.Listener.Addr().String()}
}

func (a *authority) client(change func(*Config)) *Client {
	t := a.token()
	c := Config{Address: t.Address, Root: t.Root, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil }}
	if change != nil {
		change(&c)
	}
	client := New(c)
	a.t.Cleanup(client.Close)
	return client
}

func (a *authority) bundle() enrol.Bundle {
	return enrol.Bundle{RootKey: enrol.Bytes32(a.root.Public()), Operators: [][]byte{a.record}, Time: a.now.UnixMilli()}
}

// response certifies keys in domain 7.
func (a *authority) response(keys *key.Pair) enrol.EnrollResponse {
	a.t.Helper()
	value, err := protocol.Marshal(protocol.NodeValue{Signing: keys.Signing.Public(), Sealing: keys.Sealing.Public()})
	if err != nil {
		a.t.Fatal(err)
	}
	cert := a.sign(&protocol.Record{
		Table: protocol.TableNode, Owner: protocol.NodeID(7, keys.Signing.Public()), Signer: protocol.NodeID(0, a.op.Signing.Public()), Value: value,
	}, a.op.Signing)
	return enrol.EnrollResponse{Certificate: cert, DomainName: "acme", Bundle: a.bundle(),
		Secrets: enrol.Secrets{Domain: "00000007", Keys: []enrol.DomainKey{{Epoch: 1}}}}
}

func (a *authority) answer(path string, status int, v any) {
	a.mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(v)
	})
}

func TestJoinVerifiesTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*authority, *enrol.EnrollResponse)
		want   error
	}{
		"good":            {func(*authority, *enrol.EnrollResponse) {}, nil},
		"other keys":      {func(a *authority, r *enrol.EnrollResponse) { *r = a.response(pair(a.t)) }, enrol.ErrBadAnswer},
		"no certificate":  {func(_ *authority, r *enrol.EnrollResponse) { r.Certificate = nil }, enrol.ErrBadAnswer},
		"changed":         {func(_ *authority, r *enrol.EnrollResponse) { r.Certificate[120] ^= 1 }, enrol.ErrBadAnswer},
		"no operator":     {func(_ *authority, r *enrol.EnrollResponse) { r.Bundle.Operators = nil }, enrol.ErrBadAnswer},
		"another root":    {func(_ *authority, r *enrol.EnrollResponse) { r.Bundle.RootKey = enrol.Bytes32{1} }, enrol.ErrWrongRoot},
		"no domain key":   {func(_ *authority, r *enrol.EnrollResponse) { r.Secrets.Keys = nil }, enrol.ErrBadAnswer},
		"foreign secrets": {func(_ *authority, r *enrol.EnrollResponse) { r.Secrets.Domain = "00000008" }, enrol.ErrBadAnswer},
		"hostile name":    {func(_ *authority, r *enrol.EnrollResponse) { r.DomainName = "../x" }, enrol.ErrBadAnswer},
		"foreign signature": {func(a *authority, r *enrol.EnrollResponse) {
			r.Bundle.Operators = [][]byte{newAuthority(a.t, "x").record}
		}, enrol.ErrBadAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(t, "127.0.0.1")
			keys := pair(t)
			r := a.response(keys)
			c.change(a, &r)
			a.answer("/v1/enroll", 200, r)
			m, err := a.client(nil).Join(t.Context(), a.token(), keys, "desk")
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatal(err)
			}
			if err == nil && (m.Node.ID != protocol.NodeID(7, keys.Signing.Public()) || m.DomainName != "acme" || len(m.Trust.Operators()) != 1) {
				t.Errorf("%+v", m)
			}
		})
	}
}

func TestRefusalsKeepTheirMeaning(t *testing.T) {
	a := newAuthority(t, "127.0.0.1")
	a.answer("/v1/enroll", 403, map[string]any{"error": enrol.Error{Code: "token_expired", Message: "the join token has expired on Monday"}})
	_, err := a.client(nil).Join(t.Context(), a.token(), pair(t), "desk")
	if !errors.Is(err, enrol.ErrTokenExpired) || !strings.Contains(err.Error(), "Monday") {
		t.Error(err)
	}
	other := a.token()
	other.Root[0] ^= 1
	if _, err := a.client(nil).Join(t.Context(), other, pair(t), "desk"); !errors.Is(err, enrol.ErrToken) {
		t.Error(err)
	}
	if _, err := a.client(nil).Join(t.Context(), a.token(), pair(t), "a b"); !errors.Is(err, enrol.ErrBadRequest) {
		t.Error(err)
	}
}

func TestServerMustProveItself(t *testing.T) {
	a := newAuthority(t, "127.0.0.1")
	a.answer("/v1/bundle", 200, a.bundle())
	for name, c := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"good":            {nil, nil},
		"another root":    {func(c *Config) { c.Root[0] ^= 1 }, enrol.ErrWrongRoot},
		"a year too late": {func(c *Config) { c.Now = func() time.Time { return a.now.Add(8760 * time.Hour) } }, enrol.ErrClock},
		"a year too soon": {func(c *Config) { c.Now = func() time.Time { return a.now.Add(-8760 * time.Hour) } }, enrol.ErrClock},
		"another host": {func(c *Config) {
			addr := c.Address
			c.Address = "operator.example:443"
			c.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", addr)
			}
		}, enrol.ErrWrongHost},
		"nobody": {func(c *Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
		}, ErrUnreachable},
	} {
		b, trust, err := a.client(c.change).Bundle(t.Context(), 3)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil && (b == nil || len(trust.Operators()) != 1) {
			t.Errorf("%s: %+v", name, b)
		}
	}
	a.server.TLS.Certificates[0].Certificate = a.server.TLS.Certificates[0].Certificate[:1] // a leaf alone, as a public CA's would come
	if _, _, err := a.client(nil).Bundle(t.Context(), 0); !errors.Is(err, enrol.ErrWrongRoot) {
		t.Errorf("a leaf alone: %v", err)
	}
}

func TestHostileServer(t *testing.T) {
	a := newAuthority(t, "127.0.0.1")
	a.mux.HandleFunc("/v1/bundle", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("since") {
		case "1":
			http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusFound)
		case "2":
			for range maxAnswer/1024 + 2 {
				if _, err := w.Write(make([]byte, 1024)); err != nil {
					return
				}
			}
		case "3":
			_, _ = w.Write([]byte(`{"operators":7}`))
		case "4":
			w.WriteHeader(500)
			_, _ = w.Write([]byte("<html>"))
		case "5":
			<-r.Context().Done()
		}
	})
	c := a.client(nil)
	for _, since := range []uint64{1, 2, 3, 4} {
		if _, _, err := c.Bundle(t.Context(), since); !errors.Is(err, enrol.ErrBadAnswer) {
			t.Errorf("%d: %v", since, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := c.Bundle(ctx, 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
}

func TestRenewTakesTheOperatorsTime(t *testing.T) {
	a := newAuthority(t, "127.0.0.1")
	keys := pair(t)
	id := protocol.NodeID(7, keys.Signing.Public())
	var times []int64
	a.mux.HandleFunc("/v1/renew", func(w http.ResponseWriter, r *http.Request) {
		var req enrol.RenewRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			t.Error(err)
		}
		times = append(times, req.Time)
		if err := req.Check(a.token().Root, keys.Signing.Public(), a.now); err != nil {
			e, status := enrol.ToWire(err)
			e.Time = a.now.UnixMilli()
			w.WriteHeader(status)
			_ = json.NewEncoder(w).Encode(map[string]enrol.Error{"error": e})
			return
		}
		_ = json.NewEncoder(w).Encode(a.response(keys))
	})
	late := a.client(func(c *Config) { c.Now = func() time.Time { return a.now.Add(10 * time.Minute) } })
	m, err := late.Renew(t.Context(), id, keys)
	if err != nil || m.Node.ID != id || !slices.Equal(times, []int64{a.now.Add(10 * time.Minute).UnixMilli(), a.now.UnixMilli()}) {
		t.Errorf("%v, %v", times, err)
	}
	if _, err := a.client(nil).Renew(t.Context(), id, pair(t)); !errors.Is(err, enrol.ErrBadKey) {
		t.Errorf("foreign keys: %v", err)
	}
}

func TestProxyIsUsed(t *testing.T) {
	a := newAuthority(t, "operator.example")
	a.answer("/v1/bundle", 200, a.bundle())
	connects := make(chan string, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connects <- r.Method + " " + r.Host
		w.WriteHeader(http.StatusForbidden)
	})}
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(l) }()
	defer func() { proxy.Close(); <-served }()
	c := a.client(func(c *Config) {
		c.Address = "operator.example:443"
		c.Proxy = http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String(), User: url.UserPassword("me", "secret")})
	})
	_, _, err = c.Bundle(t.Context(), 0)
	if !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "through the proxy "+l.Addr().String()) || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
	if got := <-connects; got != "CONNECT operator.example:443" {
		t.Error(got)
	}
}
