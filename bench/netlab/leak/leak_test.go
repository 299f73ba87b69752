package leak

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0] = byte(seed)
	rand.NewChaCha8(key).Read(b)
	return b
}

// Wherever 16 bytes of the payload begin and wherever they stand, they are
// found; 15 are not.
func TestPieces(t *testing.T) {
	payload := random(1, 4096)
	p := NewPieces(payload)
	noise := random(2, 512)
	if at, found := p.Find(noise); found {
		t.Fatalf("noise holds a piece at %d", at)
	}
	for from := range 64 {
		for _, to := range []int{0, 3, 200, len(noise) - PieceSize} {
			data := bytes.Clone(noise)
			if to > 0 && from > 0 {
				data[to-1] = ^payload[from-1] // not by chance one byte more
			}
			copy(data[to:], payload[from:from+PieceSize])
			if at, found := p.Find(data); !found || at != to {
				t.Errorf("piece %d at %d: found %v at %d", from, to, found, at)
			}
			copy(data[to:], noise[to:to+PieceSize])
			copy(data[to:], payload[from:from+PieceSize-1])
			data[to+PieceSize-1] = ^payload[from+PieceSize-1]
			if at, found := p.Find(data); found {
				t.Errorf("15 bytes of piece %d at %d: found at %d", from, to, at)
			}
		}
	}
	last := payload[len(payload)-PieceSize:]
	if _, found := p.Find(last); !found {
		t.Error("the last piece is not found")
	}
	for n := range PieceSize {
		if _, found := p.Find(payload[:n]); found {
			t.Errorf("%d bytes count as a piece", n)
		}
	}
}

func TestScanFindsEveryForm(t *testing.T) {
	mac := net.HardwareAddr{0x02, 0xab, 0xcd, 0x12, 0x34, 0x56}
	id := random(3, 32)
	secrets := []Secret{
		Address("printer", netip.MustParseAddr("192.168.50.20")),
		Address("printer6", netip.MustParseAddr("2001:db8::20")),
		MAC("mac", mac),
		Bytes("location", id),
		Text("device", "Printer-2"),
	}
	written := []string{
		"x192.168.50.20:9100", "C0A83214", "\xc4\x04\xc0\xa8\x32\x14", "\x14\x32\xa8\xc0",
		"[2001:db8::20]:1", string(netip.MustParseAddr("2001:db8::20").AsSlice()),
		"02:AB:cd:12:34:56", "02-AB-CD-12-34-56", "02abcd123456", string(mac),
		string(id), strings.ToUpper(hex.EncodeToString(id)), base64.StdEncoding.EncodeToString(id), base64.URLEncoding.EncodeToString(id),
		"name=PRINTER-2",
	}
	for _, w := range written {
		data := append(append(random(4, 100), w...), random(5, 100)...)
		if hits := Scan(data, secrets); len(hits) == 0 {
			t.Errorf("%q is not found", w)
		} else if hits[0].At < 100 || hits[0].At > 100+len(w) {
			t.Errorf("%q: %s", w, hits[0])
		}
	}
	if hits := Scan(random(6, 1<<12), secrets); len(hits) != 0 {
		t.Errorf("noise: %v", hits)
	}
}

// One IPv4 address in megabytes of ciphertext is chance, two are not; what is
// longer is never chance.
func TestCertain(t *testing.T) {
	short := Hit{Secret: "printer", Form: "bytes", Chance: true}
	other := Hit{Secret: "desk", Form: "bytes", Chance: true}
	long := Hit{Secret: "printer", Form: "text"}
	if got := Certain([]Hit{short, other, long}); len(got) != 1 || got[0] != long {
		t.Errorf("got %v", got)
	}
	if got := Certain([]Hit{short, other, short}); len(got) != 2 {
		t.Errorf("got %v", got)
	}
}
