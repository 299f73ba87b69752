package enrol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

func fill(b byte) (v [32]byte) {
	for i := range v {
		v[i] = b + byte(i)
	}
	return v
}

func pair(t testing.TB, seed byte) *key.Pair {
	t.Helper()
	p, err := key.Generate(bytes.NewReader(bytes.Repeat([]byte{seed}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const golden = "culvert-join-1-AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh9AQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVpbXF1eX29wLmV4YW1wbGUubmV0OjQ0M93b0-M"

func TestGoldenToken(t *testing.T) {
	tok := Token{Root: fill(0), Secret: fill(0x40), Address: "op.example.net:443"}
	if got := tok.Text(); got != golden {
		t.Errorf("token %s", got)
	}
	got, err := ParseToken(" \n" + golden + "\r\n")
	if err != nil || got != tok {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range golden {
		if _, err := ParseToken(golden[:i]); !errors.Is(err, ErrToken) {
			t.Fatalf("cut off at %d: %v", i, err)
		}
	}
	for i := len(TokenPrefix); i < len(golden); i++ {
		c := byte('A')
		if golden[i] == 'A' {
			c = 'B'
		}
		if _, err := ParseToken(golden[:i] + string(c) + golden[i+1:]); !errors.Is(err, ErrToken) {
			t.Fatalf("changed at %d: %v", i, err)
		}
	}
}

func TestTokenErrorsSayWhatToDo(t *testing.T) {
	for in, want := range map[string]string{
		"":                                       "culvert operator token create",
		"hello":                                  "culvert operator token create",
		"culvert-join-2-AAAA":                    "update culvert",
		golden[:60]:                              "copy it again",
		golden + "x":                             "copy it again",
		strings.Repeat("x", 5000):                "too many",
		(Token{Address: "nohost"}).Text():        "HOST:PORT",
		(Token{Address: "h:0"}).Text():           "port",
		(Token{Address: "bad host:443"}).Text():  "DNS name",
		(Token{Address: "0.0.0.0:443"}).Text():   "dialled",
		(Token{Address: "[fe80::1%e]:1"}).Text(): "dialled",
	} {
		if _, err := ParseToken(in); !errors.Is(err, ErrToken) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v", in, err)
		}
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	tok := Token{Secret: fill(0x40), Address: "h:1"}
	s := Secrets{Secret: fill(0x40), Keys: []DomainKey{{Key: fill(0x40)}}}
	r := EnrollRequest{Secret: fill(0x40)}
	for _, text := range []string{fmt.Sprint(tok), fmt.Sprintf("%+v", tok), fmt.Sprintf("%#v", tok), fmt.Sprintf("%v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%+v", r)} {
		if strings.Contains(text, "4041") || strings.Contains(text, "64 65") || strings.Contains(text, "0x40") {
			t.Errorf("shows the secret: %s", text)
		}
	}
}

func TestRequestsSurviveJSON(t *testing.T) {
	p := pair(t, 1)
	req := NewEnrollRequest(Token{Secret: fill(9), Address: "h:1"}, p, "desk")
	b, err := json.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	var back EnrollRequest
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, req) {
		t.Fatalf("%+v, %v", back, err)
	}
	if err := back.Check(); err != nil {
		t.Error(err)
	}
	now := time.UnixMilli(1_800_000_000_000)
	id := protocol.NodeID(7, p.Signing.Public())
	renew := NewRenewRequest(fill(0), id, p.Signing, now)
	if b, err = json.Marshal(renew); err != nil {
		t.Fatal(err)
	}
	var again RenewRequest
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	if err := again.Check(fill(0), p.Signing.Public(), now.Add(MaxSkew)); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		root protocol.Hash
		p    key.Public
		now  time.Time
		want error
	}{
		"late":         {fill(0), p.Signing.Public(), now.Add(MaxSkew + time.Second), ErrClock},
		"early":        {fill(0), p.Signing.Public(), now.Add(-MaxSkew - time.Second), ErrClock},
		"another root": {fill(1), p.Signing.Public(), now, ErrBadKey},
		"another key":  {fill(0), pair(t, 2).Signing.Public(), now, ErrBadKey},
	} {
		if err := again.Check(c.root, c.p, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSecretsAt(t *testing.T) {
	now := time.UnixMilli(1000)
	s := Secrets{Domain: "00000007", Secret: fill(1), Keys: []DomainKey{{3, fill(3), 2000}, {2, fill(2), 1000}, {1, fill(1), 0}}}
	p, err := s.At(now)
	if err != nil || p.Domain != 7 || p.Keys[0].Epoch != 2 || p.Keys[1].Epoch != 1 || p.Keys[2].Epoch != 3 {
		t.Errorf("%v, %v", p.Keys, err)
	}
	if next := s.NextKey(now); !next.Equal(time.UnixMilli(2000)) {
		t.Errorf("next %v", next)
	}
	if p, err = s.At(time.UnixMilli(2000)); err != nil || p.Keys[0].Epoch != 3 || !s.NextKey(time.UnixMilli(2000)).IsZero() {
		t.Errorf("%v, %v", p.Keys, err)
	}
	for _, bad := range []Secrets{{Domain: "7", Keys: s.Keys}, {Domain: "00000007"}, {Domain: "00000007", Keys: make([]DomainKey, maxKeys+1)}} {
		if _, err := bad.At(now); err == nil {
			t.Errorf("%d keys of domain %s are accepted", len(bad.Keys), bad.Domain)
		}
	}
}

func TestErrorsCrossTheWire(t *testing.T) {
	for _, c := range codes() {
		e, status := ToWire(fmt.Errorf("%w: details", c.err))
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		var back Error
		if err := json.Unmarshal(b, &back); err != nil || !errors.Is(&back, c.err) || status != c.status || !strings.Contains(back.Error(), "details") {
			t.Errorf("%s: %+v, %v", c.code, back, err)
		}
	}
	if e, status := ToWire(errors.New("secret path /x")); e.Code != "internal" || status != 500 || strings.Contains(e.Message, "/x") {
		t.Errorf("%+v", e)
	}
}

func TestBundleOfAnotherRootIsRefused(t *testing.T) {
	b := Bundle{RootKey: Bytes32(pair(t, 1).Signing.Public())}
	if _, err := b.Trust(fill(1), time.Now()); !errors.Is(err, ErrWrongRoot) {
		t.Error(err)
	}
	if _, err := b.Trust(pair(t, 1).Signing.Public().Hash(), time.Now()); !errors.Is(err, ErrBadAnswer) {
		t.Error(err)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(golden)
	f.Add(TokenPrefix)
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := ParseToken(s)
		if err != nil {
			if !errors.Is(err, ErrToken) {
				t.Fatal(err)
			}
			return
		}
		if back, err := ParseToken(tok.Text()); err != nil || back != tok {
			t.Fatalf("%v, %v", back, err)
		}
	})
}

func FuzzJSON(f *testing.F) {
	b, err := json.Marshal(NewEnrollRequest(Token{Secret: fill(9), Address: "h:1"}, pair(f, 1), "desk"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"id":"00000007-00","time":-1,"signature":null,"secret":"zz"}`))
	f.Add([]byte(`{"root_key":"","operators":[null],"peers":[{"addresses":["1.2.3.4:5"]}],"domain":"x","keys":[{"from":9223372036854775807}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		now := time.UnixMilli(0)
		var e EnrollRequest
		if json.Unmarshal(b, &e) == nil {
			_ = e.Check()
		}
		var r RenewRequest
		if json.Unmarshal(b, &r) == nil {
			_ = r.Check(fill(0), key.Public{}, now)
		}
		var u Bundle
		if json.Unmarshal(b, &u) == nil {
			_, _ = u.Trust(key.Public(u.RootKey).Hash(), now)
		}
		var s Secrets
		if json.Unmarshal(b, &s) == nil {
			_, _ = s.At(now)
		}
	})
}
