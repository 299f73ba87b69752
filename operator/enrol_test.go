package operator

import (
	"encoding/hex"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

func TestOneUseTokenAdmitsOneOfAHundred(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	token := newToken(t, o, TokenSpec{Domain: "acme"})
	var done, used atomic.Int64
	var wg sync.WaitGroup
	for range 100 {
		req := enrol.NewEnrollRequest(token, newKeys(t), "n")
		wg.Go(func() {
			_, err := o.Enroll(t.Context(), req, "")
			switch {
			case err == nil:
				done.Add(1)
			case errors.Is(err, enrol.ErrTokenUsed):
				used.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if done.Load() != 1 || used.Load() != 99 {
		t.Errorf("%d enrolled, %d refused", done.Load(), used.Load())
	}
	nodes, _, err := o.Nodes(t.Context(), admin, "acme", protocol.ID{}, 1000)
	if err != nil || len(nodes) != 1 {
		t.Errorf("%d nodes, %v", len(nodes), err)
	}
}

func TestSameKeysTwiceAtOnceTakeOneUse(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	token := newToken(t, o, TokenSpec{Domain: "acme", Uses: 2, TTL: "1h"})
	req := enrol.NewEnrollRequest(token, newKeys(t), "n")
	certs := make([][]byte, 20)
	var wg sync.WaitGroup
	for i := range certs {
		wg.Go(func() {
			res, err := o.Enroll(t.Context(), req, "")
			if err != nil {
				t.Error(err)
				return
			}
			certs[i] = res.Certificate
		})
	}
	wg.Wait()
	for _, cert := range certs {
		if !slices.Equal(cert, certs[0]) {
			t.Fatal("different certificates for one enrolment")
		}
	}
	ts, err := o.Tokens(t.Context(), admin, "")
	if err != nil || ts[0].Left != 1 {
		t.Errorf("tokens %+v, %v", ts, err)
	}
	c.add(2 * time.Hour) // the answer was lost, and the token has expired meanwhile
	if res, err := o.Enroll(t.Context(), req, ""); err != nil || !slices.Equal(res.Certificate, certs[0]) {
		t.Errorf("retry: %v", err)
	}
	if _, err := o.Enroll(t.Context(), enrol.NewEnrollRequest(token, newKeys(t), "n"), ""); !errors.Is(err, enrol.ErrTokenExpired) {
		t.Errorf("an expired token: %v", err)
	}
}

func TestEnrolRefuses(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	token := newToken(t, o, TokenSpec{Domain: "acme", Uses: 100})
	good := enrol.NewEnrollRequest(token, newKeys(t), "n")
	for name, c := range map[string]struct {
		change func(*enrol.EnrollRequest)
		want   error
	}{
		"small order signing key": {func(r *enrol.EnrollRequest) { r.Signing = enrol.Bytes32{1} }, key.ErrSmallOrder},
		"no point":                {func(r *enrol.EnrollRequest) { r.Signing = enrol.Bytes32{2} }, enrol.ErrBadKey},
		"small order sealing key": {func(r *enrol.EnrollRequest) { r.Sealing = enrol.Bytes32{1} }, enrol.ErrBadKey},
		"zero sealing key":        {func(r *enrol.EnrollRequest) { r.Sealing = enrol.Bytes32{} }, enrol.ErrBadKey},
		"other sealing key":       {func(r *enrol.EnrollRequest) { r.Sealing[0] ^= 1 }, enrol.ErrBadKey},
		"other name":              {func(r *enrol.EnrollRequest) { r.Name = "m" }, enrol.ErrBadKey},
		"no proof":                {func(r *enrol.EnrollRequest) { r.Proof = nil }, enrol.ErrBadKey},
		"bad name":                {func(r *enrol.EnrollRequest) { r.Name = "a b" }, enrol.ErrBadRequest},
		"another's token":         {func(r *enrol.EnrollRequest) { r.Secret[0] ^= 1 }, enrol.ErrBadKey},
	} {
		r := good
		c.change(&r)
		if _, err := o.Enroll(t.Context(), r, ""); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	token.Secret[0] ^= 1
	if _, err := o.Enroll(t.Context(), enrol.NewEnrollRequest(token, newKeys(t), "n"), ""); !errors.Is(err, enrol.ErrTokenUnknown) {
		t.Errorf("an unknown token: %v", err)
	}
	if ts, err := o.Tokens(t.Context(), admin, "acme"); err != nil || ts[0].Left != 100 {
		t.Errorf("a refused request took a use: %+v, %v", ts, err)
	}
}

func TestGroupsComeFromTheToken(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	n, _ := join(t, o, "acme", "desk", "staff", "it")
	if !slices.Equal(n.Groups, []string{"staff", "it"}) {
		t.Errorf("groups %v", n.Groups)
	}
	for _, s := range []TokenSpec{
		{Domain: "acme", Groups: []string{"a b"}}, {Domain: "acme", TTL: "soon"}, {Domain: "acme", TTL: "-1h"}, {Domain: "acme", TTL: "9999999h"},
		{Domain: "acme", Uses: -1}, {Domain: "acme", Uses: maxUses + 1}, {Domain: "acme", Groups: make([]string, 9)}, {},
	} {
		if _, err := o.CreateToken(t.Context(), admin, s); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if _, err := o.CreateToken(t.Context(), admin, TokenSpec{Domain: "nobody"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("unknown domain: %v", err)
	}
}

func TestRenew(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	n, keys := join(t, o, "acme", "desk", "staff")
	renew := func() (*enrol.EnrollResponse, error) {
		return o.Renew(t.Context(), enrol.NewRenewRequest(o.root, n.ID, keys.Signing, o.now()))
	}
	c.add(30 * time.Minute)
	res, err := renew()
	if err != nil || !slices.Equal(res.Certificate, n.Record) {
		t.Errorf("a renewal at once makes another certificate: %v", err)
	}
	c.add(20 * 24 * time.Hour)
	if res, err = renew(); err != nil {
		t.Fatal(err)
	}
	m := certified(t, o, res)
	if m.ID != n.ID || !m.Expires.After(n.Expires) || m.Sequence <= n.Sequence || !slices.Equal(m.Groups, n.Groups) {
		t.Errorf("renewed %+v", m)
	}
	c.add(nodeLife + renewGrace - time.Hour)
	if _, err := renew(); err != nil {
		t.Errorf("89 days after the expiry: %v", err)
	}
	c.add(nodeLife + renewGrace + time.Hour)
	if _, err := renew(); !errors.Is(err, enrol.ErrUnknownNode) {
		t.Errorf("91 days after the expiry: %v", err)
	}
}

func TestRenewRefuses(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	n, keys := join(t, o, "acme", "desk")
	c.add(2 * time.Hour)
	foreign := newKeys(t)
	for name, x := range map[string]struct {
		req  enrol.RenewRequest
		want error
	}{
		"foreign key":      {enrol.NewRenewRequest(o.root, n.ID, foreign.Signing, o.now()), enrol.ErrBadKey},
		"another operator": {enrol.NewRenewRequest(protocol.Hash{1}, n.ID, keys.Signing, o.now()), enrol.ErrBadKey},
		"stale":            {enrol.NewRenewRequest(o.root, n.ID, keys.Signing, o.now().Add(-3*time.Minute)), enrol.ErrClock},
		"from the future":  {enrol.NewRenewRequest(o.root, n.ID, keys.Signing, o.now().Add(3*time.Minute)), enrol.ErrClock},
		"unknown":          {enrol.NewRenewRequest(o.root, protocol.NewID(n.ID.Domain(), protocol.Hash{1}), keys.Signing, o.now()), enrol.ErrUnknownNode},
	} {
		if _, err := o.Renew(t.Context(), x.req); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := o.BanDomain(t.Context(), admin, "acme"); err != nil {
		t.Fatal(err)
	}
	good := enrol.NewRenewRequest(o.root, n.ID, keys.Signing, o.now())
	if _, err := o.Renew(t.Context(), good); !errors.Is(err, enrol.ErrBanned) {
		t.Errorf("banned: %v", err)
	}
	if _, err := o.UnbanDomain(t.Context(), admin, "acme"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Renew(t.Context(), good); err != nil {
		t.Errorf("unbanned: %v", err)
	}
	if _, err := o.RevokeNode(t.Context(), admin, n.ID.String()); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Renew(t.Context(), good); !errors.Is(err, enrol.ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := o.Enroll(t.Context(), enrol.NewEnrollRequest(newToken(t, o, TokenSpec{Domain: "acme"}), keys, "desk"), ""); !errors.Is(err, enrol.ErrRevoked) {
		t.Errorf("revoked keys enrol again: %v", err)
	}
}

func TestRevocationsAreNumbered(t *testing.T) {
	o, _ := newOperator(t)
	d := addDomain(t, o, "acme")
	a, _ := join(t, o, "acme", "a")
	b, _ := join(t, o, "acme", "b")
	for _, err := range []error{
		func() error { _, err := o.RevokeNode(t.Context(), admin, a.ID.String()); return err }(),
		func() error { _, err := o.BanDomain(t.Context(), admin, "acme"); return err }(),
		func() error { _, err := o.BanDomain(t.Context(), admin, "acme"); return err }(), // no change, no entry
		func() error { _, err := o.RevokeNode(t.Context(), admin, b.ID.String()); return err }(),
		func() error { _, err := o.UnbanDomain(t.Context(), admin, d.String()); return err }(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	bundle, err := o.Bundle(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := bundle.Trust(o.root, o.now())
	if err != nil {
		t.Fatal(err)
	}
	var numbers []uint64
	for _, raw := range bundle.Revocations {
		r, err := protocol.ParseRecord(raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := trust.CheckStatic(r, o.now()); err != nil {
			t.Fatal(err)
		}
		var v protocol.RevocationValue
		if err := protocol.Unmarshal(r.Value, &v); err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, v.Number)
	}
	if !slices.Equal(numbers, []uint64{1, 3, 4}) || bundle.Last != 4 { // 2, the ban, was replaced by 4
		t.Errorf("numbers %v, last %d", numbers, bundle.Last)
	}
	later, err := o.Bundle(t.Context(), 3)
	if err != nil || len(later.Revocations) != 1 {
		t.Errorf("since 3: %d, %v", len(later.Revocations), err)
	}
	if static(t, o, protocol.TableNode, a.ID) != nil {
		t.Error("a revoked node's certificate is still published")
	}
}

func TestDomainKeyIsReplacedAfterARevocation(t *testing.T) {
	o, c := newOperator(t)
	d := addDomain(t, o, "acme")
	n, keys := join(t, o, "acme", "stays")
	gone, _ := join(t, o, "acme", "goes")
	dev, err := o.AddDevice(t.Context(), admin, printer("p1"))
	if err != nil {
		t.Fatal(err)
	}
	secrets := func() *enrol.Secrets {
		t.Helper()
		res, err := o.Renew(t.Context(), enrol.NewRenewRequest(o.root, n.ID, keys.Signing, o.now()))
		if err != nil {
			t.Fatal(err)
		}
		return &res.Secrets
	}
	readable := func(s *enrol.Secrets, want uint32) {
		t.Helper()
		p, err := s.At(o.now())
		if err != nil {
			t.Fatal(err)
		}
		r := static(t, o, protocol.TableEndDevice, dev.ID)
		if _, err := p.OpenValue(r.Table, r.Owner, r.Value); err != nil {
			t.Fatal(err)
		}
		if p.Keys[0].Epoch != want || p.Domain != d {
			t.Errorf("seals under epoch %d, want %d", p.Keys[0].Epoch, want)
		}
	}
	before := secrets()
	readable(before, 1)
	if _, err := o.RevokeNode(t.Context(), admin, gone.ID.String()); err != nil {
		t.Fatal(err)
	}
	o.maintain(t.Context())
	during := secrets()
	readable(before, 1) // nobody is cut off before the new key is in use
	readable(during, 1)
	if len(during.Keys) != 2 || during.NextKey(o.now()).IsZero() {
		t.Errorf("%d keys, next %v", len(during.Keys), during.NextKey(o.now()))
	}
	c.add(KeyGrace)
	o.maintain(t.Context())
	readable(during, 2)
	r := static(t, o, protocol.TableEndDevice, dev.ID)
	old := before
	p, err := old.At(o.now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.OpenValue(r.Table, r.Owner, r.Value); !errors.Is(err, protocol.ErrDomainKey) {
		t.Errorf("the revoked node's key still opens new records: %v", err)
	}
	if after := secrets(); len(after.Keys) != 2 {
		t.Errorf("%d epochs readable", len(after.Keys))
	}
}

func TestMassRevocationHandsOutBoundedKeys(t *testing.T) {
	o, c := newOperator(t)
	addDomain(t, o, "acme")
	n, keys := join(t, o, "acme", "stays")
	for range maxWaiting + 8 {
		m, _ := join(t, o, "acme", "goes")
		if _, err := o.RevokeNode(t.Context(), admin, m.ID.String()); err != nil {
			t.Fatal(err)
		}
	}
	c.add(KeyGrace)
	res, err := o.Renew(t.Context(), enrol.NewRenewRequest(o.root, n.ID, keys.Signing, o.now()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := res.Secrets.At(o.now()); err != nil {
		t.Error(err)
	}
}

func TestDomainNumbers(t *testing.T) {
	o, _ := newOperator(t)
	addDomain(t, o, "acme")
	if _, err := o.AddDomain(t.Context(), admin, "ACME"); !errors.Is(err, ErrExists) {
		t.Errorf("the same name in capitals: %v", err)
	}
	for _, bad := range []string{"", "a b", "-a", "é", hex.EncodeToString(make([]byte, 40))} {
		if _, err := o.AddDomain(t.Context(), admin, bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	o.rand = &repeating{byte(0), 0, 32 + 32, 32 + 32 + 4}
	if d := addDomain(t, o, "zero-first"); d == 0 {
		t.Error("domain 0 was given away")
	}
}

// repeating gives zeros between from and to, and ones elsewhere: the first number drawn is 0.
type repeating struct {
	b        byte
	at       int
	from, to int
}

func (r *repeating) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 1
		if r.at >= r.from && r.at < r.to {
			p[i] = 0
		}
		r.at++
	}
	return len(p), nil
}
