package carrier

import "testing"

func TestClassify(t *testing.T) {
	want := func(b int) Kind {
		switch {
		case b < 4:
			return STUN
		case b < 16:
			return Culvert
		case b < 64:
			return Other
		}
		return QUIC
	}
	for b := range 256 {
		if got := Classify(byte(b)); got != want(b) {
			t.Errorf("Classify(%#02x) = %v, want %v", b, got, want(b))
		}
	}
	for kind, name := range map[Kind]string{STUN: "stun", Culvert: "culvert", QUIC: "quic", Other: "other"} {
		if kind.String() != name {
			t.Errorf("%d is called %q, want %q", kind, kind, name)
		}
	}
}
