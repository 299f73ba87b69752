package protocol

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew: a change there is a change of the wire")

// golden compares b with testdata/name.golden, lines of 32 bytes in hex.
func golden(t *testing.T, name string, b []byte) {
	t.Helper()
	var s strings.Builder
	for rest := b; len(rest) > 0; {
		n := min(32, len(rest))
		fmt.Fprintln(&s, hex.EncodeToString(rest[:n]))
		rest = rest[n:]
	}
	file := filepath.Join("testdata", name+".golden")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(file, []byte(s.String()), 0o644))
		return
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if string(want) != s.String() {
		t.Errorf("%s changed:\n%swant\n%s", name, s.String(), want)
	}
}

func TestMessages(t *testing.T) {
	seen := make(map[Command]bool)
	for _, m := range messages(t) {
		c := m.Command()
		seen[c] = true
		t.Run(c.String(), func(t *testing.T) {
			b, err := AppendPayload(nil, m)
			must(t, err)
			golden(t, c.String(), b)
			lib, err := Marshal(m)
			must(t, err)
			if !bytes.Equal(b, lib) {
				t.Errorf("own encoding\n%x\nlibrary's\n%x", b, lib)
			}
			got, err := parsers[c](b)
			must(t, err)
			if !reflect.DeepEqual(got, m) {
				t.Errorf("read back\n%+v\nwant\n%+v", got, m)
			}
			v := reflect.New(reflect.TypeOf(m))
			must(t, Unmarshal(b, v.Interface()))
			if !reflect.DeepEqual(v.Elem().Interface(), any(m)) {
				t.Errorf("library reads\n%+v\nwant\n%+v", v.Elem(), m)
			}
			for i := range b {
				if p, err := parsers[c](b[:i]); err == nil {
					t.Errorf("%d of %d bytes read as %+v", i, len(b), p)
				}
			}
			if p, err := parsers[c](append(bytes.Clone(b), 0)); err == nil {
				t.Errorf("a byte too many read as %+v", p)
			}
			checkLater(t, m, b)
		})
	}
	for c := Command(1); c < CmdEnd; c++ {
		if !seen[c] {
			t.Errorf("no sample of %s", c)
		}
	}
}

// checkLater reads the message as a later version with one more field might send it.
func checkLater(t *testing.T, m Payload, b []byte) {
	t.Helper()
	later := append(bytes.Clone(b), 0xc4, 2, 1, 2)
	later[0]++ // one element more; no message has fifteen
	got, err := parsers[m.Command()](later)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("with a field of a later version: %+v, %v", got, err)
	}
}

func TestRecords(t *testing.T) {
	recs := samples(t)
	for table := Table(1); table < TableEnd; table++ {
		t.Run(table.String(), func(t *testing.T) {
			r := recs[table]
			golden(t, "record"+table.String(), r.Raw())
			for i := range r.Raw() {
				if _, err := ParseRecord(r.Raw()[:i:i]); err == nil {
					t.Fatalf("%d of %d bytes taken", i, len(r.Raw()))
				}
			}
			if _, err := ParseRecord(append(bytes.Clone(r.Raw()), 0)); err == nil {
				t.Error("a byte too many taken")
			}
		})
	}
}

// TestRecordTampering flips every bit of a record: it is refused as malformed, as another's, or by its signature.
func TestRecordTampering(t *testing.T) {
	raw := samples(t)[TableNode].Raw()
	signer := sampleKeys(t, 2).Signing.Public()
	for i := range raw {
		for bit := range 8 {
			b := bytes.Clone(raw)
			b[i] ^= 1 << bit
			if r, err := ParseRecord(b); err == nil && r.VerifySignature(signer) == nil {
				t.Fatalf("bit %d of byte %d flipped, and taken", bit, i)
			}
		}
	}
}
