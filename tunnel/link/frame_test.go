package link

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"culvert/protocol"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestHeaderGolden(t *testing.T) {
	h := Header{Type: FrameData, Length: 5, Flow: newFlowID([8]byte{1, 2, 3, 4, 5, 6, 7, 8}, 9), Offset: 0x0a0b}
	want := unhex(t, "05 00 0005 0102030405060708 0000000000000009 0000000000000a0b")
	got := AppendHeader(nil, h)
	if !bytes.Equal(got, want) {
		t.Fatalf("% x", got)
	}
	back, err := ParseHeader(got)
	if err != nil || back != h {
		t.Errorf("%+v, %v", back, err)
	}
	for n := range got {
		if _, err := ParseHeader(got[:n]); !errors.Is(err, ErrFrame) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, bad := range []Header{{}, {Type: FrameData}, {Type: FrameData, Length: maxData + 1}, {Type: FrameFin, Offset: 1 << 63}} {
		if _, err := ParseHeader(AppendHeader(nil, bad)); err == nil {
			t.Errorf("%+v accepted", bad)
		}
	}
}

func TestHelloGolden(t *testing.T) {
	h := Hello{Role: RoleUser, Request: protocol.Hash{0: 0xaa, 31: 0xbb}, Node: []byte("node")}
	want := unhex(t, "01 01 aa"+strings.Repeat("00", 30)+"bb 0004 6e6f6465")
	got := h.Append(nil)
	if !bytes.Equal(got, want) {
		t.Fatalf("% x", got)
	}
	for n := range got {
		if _, err := ParseHello(got[:n]); err == nil {
			t.Errorf("%d bytes accepted", n)
		}
	}
	if back, err := ParseHello(append(got, "of a later version"...)); err != nil || string(back.Node) != "node" || back.Request != h.Request {
		t.Errorf("%+v, %v", back, err)
	}
	for i, v := range map[int]byte{0: 2, 1: 3, 34: 0xff} {
		bad := bytes.Clone(got)
		bad[i] = v
		if _, err := ParseHello(bad); err == nil {
			t.Errorf("byte %d = %d accepted", i, v)
		}
	}
}

func TestOpenGolden(t *testing.T) {
	o := Open{Device: protocol.NewID(7, protocol.Hash{1}), Port: 9100, Protocol: protocol.TCP}
	want := unhex(t, "00000007 01"+strings.Repeat("00", 31)+"238c 06")
	got := o.Append(nil)
	if !bytes.Equal(got, want) {
		t.Fatalf("% x", got)
	}
	for n := range got {
		if _, err := ParseOpen(got[:n]); err == nil {
			t.Errorf("%d bytes accepted", n)
		}
	}
	if back, err := ParseOpen(got); err != nil || back != o {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestReason(t *testing.T) {
	b := AppendReason(nil, ReasonConsent, strings.Repeat("x", 1000))
	if len(b) != 1+maxText {
		t.Errorf("%d bytes", len(b))
	}
	if r, text, err := ParseReason([]byte{200, 'a', 0x1b, 'b', '\n', 0xff}); err != nil || r != ReasonInternal || text != "ab" {
		t.Errorf("%v %q %v", r, text, err)
	}
	if _, _, err := ParseReason(nil); err == nil {
		t.Error("nothing accepted")
	}
	for r := range reasons {
		if r.String() == "" {
			t.Errorf("reason %d has no words", r)
		}
	}
}

func TestServerName(t *testing.T) {
	id := protocol.NewID(0xdeadbeef, protocol.Hash{1, 2, 3})
	s := ServerName(id)
	if back, err := ParseServerName(s); err != nil || back != id {
		t.Errorf("%v, %v", back, err)
	}
	for _, bad := range []string{"", s[1:], s + ".", strings.ToUpper(s[:8]) + "x" + s[9:], strings.ReplaceAll(s, ".", "")} {
		if _, err := ParseServerName(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(AppendHeader(nil, Header{Type: FrameFin}))
	f.Add(append(AppendHeader(nil, Header{Type: FrameOpen, Length: openSize}), Open{Port: 1}.Append(nil)...))
	f.Add(append(AppendHeader(nil, Header{Type: FrameHello, Length: 40}), Hello{Role: RoleUser, Node: []byte("node")}.Append(nil)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, data, err := readFrame(bytes.NewReader(b), nil)
		if err != nil {
			return
		}
		if len(data) != h.Length || cap(data) > 2*max(len(b), headerSize) {
			t.Fatalf("%d bytes of %d, room for %d", len(data), h.Length, cap(data))
		}
		if hello, err := ParseHello(data); err == nil {
			if !bytes.HasPrefix(data, hello.Append(nil)) {
				t.Fatal("hello does not come back")
			}
		}
		if open, err := ParseOpen(data); err == nil && !bytes.HasPrefix(data, open.Append(nil)) {
			t.Fatal("open does not come back")
		}
		_, _, _ = ParseReason(data)
	})
}
