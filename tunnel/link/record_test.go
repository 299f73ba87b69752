package link

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"
)

func testKeys(t testing.TB) (FlowID, flowKeys) {
	t.Helper()
	flow := newFlowID([8]byte{1, 2, 3, 4, 5, 6, 7, 8}, 9)
	k, err := deriveFlow([32]byte{7}, flow)
	if err != nil {
		t.Fatal(err)
	}
	return flow, k
}

func newTestDirection(t testing.TB, traffic [32]byte, every uint64) *direction {
	t.Helper()
	d, err := newDirection(traffic, every)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func sealed(t testing.TB, d *direction, kind Kind, data string) []byte {
	t.Helper()
	buf := make([]byte, recordHeader+len(data)+recordTag)
	copy(buf[recordHeader:], data)
	rec, err := d.seal(buf, kind, len(data))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func ample(n int) []byte { return make([]byte, n) }

// The bytes of version 1: whoever changes them makes another version.
func TestRecordGolden(t *testing.T) {
	flow, k := testKeys(t)
	d := newTestDirection(t, k.toAcceptor, rekeyEvery)
	got := AppendPreface(nil, flow, k.proof)
	for _, r := range [][]byte{sealed(t, d, KindReady, ""), sealed(t, d, KindData, "hello"), sealed(t, d, KindFin, "")} {
		got = append(got, r...)
	}
	const want = "09" + "0102030405060708" + "0000000000000009" + // preface, flow
		"2d48b8564adf1bd7fa82485550482eac3ac15c18c23f04524eb335874cb94e9f" + // proof
		"01000000" + "0b249fb0121f562e65b83db65b46340f" + // READY
		"02000005" + "28aea7ce87" + "5665f8205997a658c2fdfd051630476d" + // DATA
		"03000000" + "f9bae1fe1e883f31338c56e7bfbb8f30" // FIN
	if hex.EncodeToString(got) != want {
		t.Errorf("%x", got)
	}
}

func TestKeysDiffer(t *testing.T) {
	_, k := testKeys(t)
	other, err := deriveFlow([32]byte{7}, newFlowID([8]byte{1, 2, 3, 4, 5, 6, 7, 8}, 10))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[[32]byte]bool{}
	for _, v := range [][32]byte{k.proof, k.toAcceptor, k.toDialler, other.proof, other.toAcceptor, other.toDialler} {
		if seen[v] {
			t.Error("two keys are equal")
		}
		seen[v] = true
	}
}

func TestRecordsAcrossKeys(t *testing.T) {
	_, k := testKeys(t)
	out, in := newTestDirection(t, k.toAcceptor, 3), newTestDirection(t, k.toAcceptor, 3)
	var keys [][32]byte
	for range 10 {
		rec := sealed(t, out, KindData, "same text")
		if len(keys) == 0 || keys[len(keys)-1] != out.traffic {
			keys = append(keys, out.traffic)
		}
		kind, plain, err := in.open(bytes.NewReader(rec), ample)
		if err != nil || kind != KindData || string(plain) != "same text" {
			t.Fatalf("%d %q %v", kind, plain, err)
		}
	}
	if len(keys) != 4 {
		t.Errorf("%d keys for 10 records, 3 each", len(keys))
	}
}

// However long the records are that are sent, a key seals no more than TLS would have it seal: 2^24.5 records of 2^14 bytes.
func TestKeysSealNoMoreThanTLS(t *testing.T) {
	if blocks := rekeyEvery * recordMax / 16; blocks > 1<<34 {
		t.Errorf("%d blocks under one key", blocks)
	}
}

func TestRecordTampering(t *testing.T) {
	_, k := testKeys(t)
	rec := sealed(t, newTestDirection(t, k.toAcceptor, rekeyEvery), KindData, "hello")
	for n := range rec {
		d := newTestDirection(t, k.toAcceptor, rekeyEvery)
		if _, _, err := d.open(bytes.NewReader(rec[:n]), ample); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		bad := bytes.Clone(rec)
		bad[n] ^= 1
		if _, _, err := newTestDirection(t, k.toAcceptor, rekeyEvery).open(bytes.NewReader(bad), ample); err == nil {
			t.Errorf("byte %d changed and accepted", n)
		}
	}
	d := newTestDirection(t, k.toAcceptor, rekeyEvery)
	if _, _, err := d.open(bytes.NewReader(rec), ample); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.open(bytes.NewReader(rec), ample); !errors.Is(err, ErrRecord) {
		t.Errorf("replayed record: %v", err)
	}
	if _, _, err := newTestDirection(t, k.toDialler, rekeyEvery).open(bytes.NewReader(rec), ample); !errors.Is(err, ErrRecord) {
		t.Errorf("record of the other direction: %v", err)
	}
}

func TestRecordBounds(t *testing.T) {
	_, k := testKeys(t)
	for _, head := range [][4]byte{{0, 0, 0, 1}, {2, 0, 0, 0}, {2, 4, 0, 1}, {2, 0xff, 0xff, 0xff}, {3, 0, 0, 1}, {9, 0, 0, 0}} {
		asked := 0
		_, _, err := newTestDirection(t, k.toAcceptor, rekeyEvery).open(bytes.NewReader(head[:]), func(n int) []byte {
			asked = n
			return make([]byte, n)
		})
		if !errors.Is(err, ErrRecord) || asked != 0 {
			t.Errorf("% x: %v, %d bytes asked for", head, err, asked)
		}
	}
}

func TestPreface(t *testing.T) {
	flow, k := testKeys(t)
	b := AppendPreface(nil, flow, k.proof)
	if f, p, err := ParsePreface(b); err != nil || f != flow || p != k.proof {
		t.Errorf("%v %v", f, err)
	}
	for n := range b {
		if _, _, err := ParsePreface(b[:n]); err == nil {
			t.Errorf("%d bytes accepted", n)
		}
	}
}

func FuzzRecords(f *testing.F) {
	_, k := testKeys(f)
	d := newTestDirection(f, k.toAcceptor, rekeyEvery)
	f.Add(append(sealed(f, d, KindReady, ""), sealed(f, d, KindData, "hello")...))
	f.Add([]byte{2, 0, 0, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := newTestDirection(t, k.toAcceptor, rekeyEvery)
		r := bytes.NewReader(b)
		for {
			kind, plain, err := d.open(r, ample)
			if err != nil {
				return
			}
			if kind != KindData && len(plain) != 0 {
				t.Fatalf("kind %d with %d bytes", kind, len(plain))
			}
		}
	})
}

func FuzzPreface(f *testing.F) {
	flow, k := testKeys(f)
	f.Add(AppendPreface(nil, flow, k.proof))
	f.Fuzz(func(t *testing.T, b []byte) {
		flow, proof, err := ParsePreface(b)
		if err == nil && !bytes.Equal(AppendPreface(nil, flow, proof), b) {
			t.Fatal("does not come back")
		}
	})
}

func BenchmarkRecord(b *testing.B) {
	_, k := testKeys(b)
	out, in := newTestDirection(b, k.toAcceptor, rekeyEvery), newTestDirection(b, k.toAcceptor, rekeyEvery)
	buf, into := make([]byte, recordHeader+recordSent+recordTag), make([]byte, recordHeader+recordSent+recordTag)
	lend := func(int) []byte { return into }
	r := new(bytes.Reader)
	b.SetBytes(recordSent)
	b.ReportAllocs()
	for b.Loop() {
		rec, err := out.seal(buf, KindData, recordSent)
		if err != nil {
			b.Fatal(err)
		}
		r.Reset(rec)
		if _, _, err := in.open(r, lend); err != nil {
			b.Fatal(err)
		}
	}
}
