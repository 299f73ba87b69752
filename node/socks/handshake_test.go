package socks

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// play gives the machine what it asks for out of in, and returns all it says and how much it took.
func play(h *handshake, in []byte) (said []byte, took int, err error) {
	for !h.done() {
		if len(in)-took < h.need {
			return said, took, errShort
		}
		b := in[took : took+h.need]
		var out []byte
		out, err = h.step(b)
		took += len(b)
		said = append(said, out...)
		if err != nil {
			return said, took, err
		}
	}
	return said, took, nil
}

var errShort = errors.New("more bytes wanted")

func connectTo(name string, port uint16) string {
	return "\x05\x01\x00\x03" + string(rune(len(name))) + name + string([]byte{byte(port >> 8), byte(port)})
}

func TestHandshake(t *testing.T) {
	anna := credentials{"anna", "secret"}
	const none, password = "\x05\x01\x00", "\x05\x02\x00\x02"
	const right, wrong = "\x01\x04anna\x06secret", "\x01\x04anna\x06Secret"
	const ask = "\x05\x01\x00\x03\x01p\x02\x77"
	for _, c := range []struct {
		name string
		want credentials
		in   string
		said string
		req  request
		err  error
	}{
		{"by name", credentials{}, none + ask, "\x05\x00", request{1, "p", 631, 0}, nil},
		{"one method of many", credentials{}, "\x05\x03\x01\x02\x00" + ask, "\x05\x00", request{1, "p", 631, 0}, nil},
		{"with a password", anna, password + right + ask, "\x05\x02\x01\x00", request{1, "p", 631, 0}, nil},
		{"a wrong password", anna, password + wrong + ask, "\x05\x02\x01\x01", request{}, errPassword},
		{"a wrong user", anna, password + "\x01\x01x\x06secret" + ask, "\x05\x02\x01\x01", request{}, errPassword},
		{"an empty user", anna, password + "\x01\x00", "\x05\x02\x01\x01", request{}, errPassword},
		{"an empty password", anna, password + "\x01\x04anna\x00", "\x05\x02\x01\x01", request{}, errPassword},
		{"another password version", anna, password + "\x02\x04anna", "\x05\x02", request{}, errVersion},
		{"no password where one is due", anna, none + ask, "\x05\xff", request{}, errMethod},
		{"only a password where none is known", credentials{}, "\x05\x01\x02" + right, "\x05\xff", request{}, errMethod},
		{"no method", credentials{}, "\x05\x00", "\x05\xff", request{}, errMethod},
		{"SOCKS4", credentials{}, "\x04\x01\x02\x77", "", request{}, errVersion},
		{"a web browser", credentials{}, "GET / HTTP/1.1\r\n\r\n", "", request{}, errVersion},
		{"an IPv4 address", credentials{}, none + "\x05\x01\x00\x01\xc0\xa8\x01\x02\x00\x50", "\x05\x00", request{1, "", 80, 0}, nil},
		{"an IPv6 address", credentials{}, none + "\x05\x01\x00\x04" + strings.Repeat("\x00", 15) + "\x01\x00\x50", "\x05\x00", request{1, "", 80, 0}, nil},
		{"an unknown type", credentials{}, none + "\x05\x01\x00\x02", "\x05\x00", request{1, "", 0, NoAddressType}, nil},
		{"BIND", credentials{}, none + "\x05\x02\x00\x03\x01p\x02\x77", "\x05\x00", request{2, "p", 631, NoCommand}, nil},
		{"UDP ASSOCIATE", credentials{}, none + "\x05\x03\x00\x01\x00\x00\x00\x00\x00\x00", "\x05\x00", request{3, "", 0, NoCommand}, nil},
		{"the longest name", credentials{}, none + "\x05\x01\x00\x03\xff" + strings.Repeat("n", 255) + "\x02\x77", "\x05\x00", request{1, strings.Repeat("n", 255), 631, 0}, nil},
		{"an empty name", credentials{}, none + "\x05\x01\x00\x03\x00\x02\x77", "\x05\x00", request{1, "", 631, 0}, nil},
		{"a reserved byte", credentials{}, none + "\x05\x01\x01\x03", "\x05\x00" + string(Failed.message()), request{}, errReserved},
		{"another version in the request", credentials{}, none + "\x04\x01\x00\x03", "\x05\x00", request{}, errVersion},
	} {
		h := newHandshake(c.want)
		said, took, err := play(h, []byte(c.in))
		if !errors.Is(err, c.err) || string(said) != c.said {
			t.Errorf("%s: said %x, %v; want %x, %v", c.name, said, err, c.said, c.err)
		}
		if c.err == nil && (h.request != c.req || took != len(c.in)) {
			t.Errorf("%s: %+v after %d of %d bytes, want %+v", c.name, h.request, took, len(c.in), c.req)
		}
		if c.err != nil {
			continue
		}
		for n := range took {
			if _, _, err := play(newHandshake(c.want), []byte(c.in[:n])); !errors.Is(err, errShort) {
				t.Errorf("%s: cut to %d bytes: %v", c.name, n, err)
			}
		}
	}
}

func TestStepWantsWhatItAskedFor(t *testing.T) {
	h := newHandshake(credentials{})
	if _, err := h.step([]byte{5}); err == nil {
		t.Error("a short step is taken")
	}
	if _, err := h.step([]byte{5, 1, 0}); err == nil {
		t.Error("a long step is taken")
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte("\x05\x01\x00"+connectTo("printer-3.culvert", 631)), false)
	f.Add([]byte("\x05\x02\x00\x02\x01\x04anna\x06secret"+connectTo("printer-3@acme", 9100)), true)
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x04"), false)
	f.Fuzz(func(t *testing.T, in []byte, secured bool) {
		var want credentials
		if secured {
			want = credentials{"anna", "secret"}
		}
		h := newHandshake(want)
		said, took, err := play(h, in)
		if took > len(in) || h.need > 257 || !h.done() && h.need == 0 {
			t.Fatalf("took %d of %d, needs %d at stage %d", took, len(in), h.need, h.at)
		}
		if secured && h.done() && !bytes.HasPrefix(said, []byte{5, 2, 1, 0}) {
			t.Fatalf("a request without a password: %x", in)
		}
		if err == nil && h.request.reply == Succeeded {
			if target, ok := parseTarget(h.request.name, h.request.port); ok {
				again, ok := parseTarget(target.Device+"@"+target.Domain, target.Port)
				if target.Domain != "" && (!ok || again != target) {
					t.Fatalf("%q is %+v, and then %+v", h.request.name, target, again)
				}
			}
		}
	})
}
