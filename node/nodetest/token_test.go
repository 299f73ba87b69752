package nodetest

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"culvert/node/client"
	"culvert/operator"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// Of a hundred that use a one-use token at once, over HTTPS and each with keys of its own, one is enrolled.
func TestOneUseToken(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	token := m.token("acme", 1)
	var in, refused atomic.Int64
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range 100 {
		a := &agent{t: t, name: "node", dir: filepath.Join(m.dir, "n", string(rune('a'+i/26))+string(rune('a'+i%26)))}
		wg.Go(func() {
			<-start
			switch err := a.enrol(token); {
			case err == nil:
				in.Add(1)
			case errors.Is(err, enrol.ErrTokenUsed) && has(err.Error(), "1 of 1", "ask the operator for a new one"):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	if in.Load() != 1 || refused.Load() != 99 {
		t.Errorf("%d enrolled, %d refused", in.Load(), refused.Load())
	}
	l, _, err := m.op.Nodes(t.Context(), admin, "acme", [36]byte{}, 1000)
	if err != nil || len(l) != 1 {
		t.Errorf("%d nodes are registered, %v", len(l), err)
	}
}

// Whoever joins with a token that is no longer good reads why.
func TestJoinRefusedInWords(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme", "gone")
	a := m.agent("desk", "", nil)
	used := m.token("acme", 1)
	m.probeBy(used, false)
	short := must[operator.TokenView](t)(m.op.CreateToken(t.Context(), admin, operator.TokenSpec{Domain: "acme", TTL: "1s"}))
	banned := m.token("gone", 1)
	must[operator.DomainView](t)(m.op.BanDomain(t.Context(), admin, "gone"))
	eventually(t, "the token expires", func() bool { return time.Now().After(short.Expires) })
	secret := []byte(m.token("acme", 1))
	secret[len(secret)/2] ^= 1
	for name, c := range map[string]struct {
		token string
		code  error
		text  string
	}{
		"used":     {used, client.ErrRefused, "used up"},
		"expired":  {short.Token, client.ErrRefused, "expired"},
		"banned":   {banned, client.ErrRefused, "banned"},
		"damaged":  {string(secret), client.ErrBadRequest, "not a valid join token"},
		"no token": {"let-me-in", client.ErrBadRequest, "not a valid join token"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := a.api.Join(t.Context(), c.token, "desk")
			var e *client.Error
			if !errors.Is(err, c.code) || !errors.As(err, &e) || !strings.Contains(e.Message, c.text) || e.Hint == "" {
				t.Errorf("%#v", err)
			}
		})
	}
	if s := must[client.Status](t)(a.api.Status(t.Context())); len(s.Memberships) != 0 {
		t.Errorf("it is in %+v", s.Memberships)
	}
}

// A key for which everybody can sign is not enrolled, and costs no use of the token.
func TestSmallOrderKeyAtEnrolment(t *testing.T) {
	t.Parallel()
	m := newMesh(t, "acme")
	token := m.token("acme", 1)
	tok := must[enrol.Token](t)(enrol.ParseToken(token))
	good := must[*key.Pair](t)(key.Generate(rand.Reader))
	signature := make([]byte, 64)
	signature[0] = 1
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer c.CloseIdleConnections()
	for name, q := range map[string]enrol.EnrollRequest{
		"signing key": {Secret: tok.Secret, Signing: enrol.Bytes32(identityPoint), Sealing: enrol.Bytes32(good.Sealing.Public()), Name: "x", Proof: signature},
		"sealing key": {Secret: tok.Secret, Signing: enrol.Bytes32(good.Signing.Public()), Sealing: enrol.Bytes32{}, Name: "x", Proof: signature},
	} {
		res, err := c.Post("https://"+m.https+"/v1/enroll", "application/json", bytes.NewReader(must[[]byte](t)(json.Marshal(q))))
		noError(t, err)
		var v struct {
			Error enrol.Error `json:"error"`
		}
		noError(t, json.NewDecoder(res.Body).Decode(&v))
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest || v.Error.Code != "bad_key" || !strings.Contains(v.Error.Message, name) {
			t.Errorf("%s: %d %+v", name, res.StatusCode, v.Error)
		}
	}
	m.probeBy(token, false)
}
