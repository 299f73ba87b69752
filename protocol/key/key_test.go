package key

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testPair(t testing.TB, fill byte) *Pair {
	t.Helper()
	p, err := Generate(bytes.NewReader(bytes.Repeat([]byte{fill}, 64)))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The torsion points of edwards25519 (order 1, 2, 4, 8) in every encoding that the decoder might take.
var smallOrder = []string{
	"0100000000000000000000000000000000000000000000000000000000000000",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"0000000000000000000000000000000000000000000000000000000000000000",
	"0000000000000000000000000000000000000000000000000000000000000080",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
	"0100000000000000000000000000000000000000000000000000000000000080",
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
}

func TestSmallOrderRefused(t *testing.T) {
	for _, h := range smallOrder {
		b, _ := hex.DecodeString(h)
		if err := CheckPublic(Public(b)); err == nil {
			t.Errorf("%s accepted", h)
		}
	}
	if err := CheckPublic(testPair(t, 1).Signing.Public()); err != nil {
		t.Errorf("honest key refused: %v", err)
	}
}

func TestAgree(t *testing.T) {
	a, b := testPair(t, 1), testPair(t, 2)
	x, err := a.Sealing.Agree(b.Sealing.Public())
	if err != nil {
		t.Fatal(err)
	}
	y, err := b.Sealing.Agree(a.Sealing.Public())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Error("the two sides disagree")
	}
	if _, err := a.Sealing.Agree(Public{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("zero point: %v", err)
	}
}

func TestFile(t *testing.T) {
	p := testPair(t, 3)
	path := filepath.Join(t.TempDir(), "node.key")
	if err := p.Save(path); err != nil {
		t.Fatal(err)
	}
	q, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Signing.Equal(q.Signing) || !p.Sealing.Equal(q.Sealing) {
		t.Error("loaded pair differs")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); !errors.Is(err, ErrLooseMode) || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("mode 0644: %v", err)
	}
}

func TestFileTruncated(t *testing.T) {
	p := testPair(t, 3)
	path := filepath.Join(t.TempDir(), "node.key")
	if err := p.Save(path); err != nil {
		t.Fatal(err)
	}
	b, _ := os.ReadFile(path)
	for n := range len(b) {
		if _, err := parseFile(string(b[:n])); err == nil {
			t.Errorf("truncation to %d bytes accepted", n)
		}
	}
}

func TestRedacted(t *testing.T) {
	p := testPair(t, 4)
	seed := hex.EncodeToString(p.Signing.private.Seed())
	for _, f := range []string{"%v", "%s", "%#v", "%+v"} {
		if s := fmt.Sprintf(f, p.Signing); strings.Contains(s, seed[:8]) || !strings.Contains(s, "redacted") {
			t.Errorf("%s prints %s", f, s)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add("culvert key 1\nsigning 00\nsealing 00\n")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseFile(s)
		if (p == nil) == (err == nil) {
			t.Fatal("neither pair nor error")
		}
	})
}
