package registry

import (
	"fmt"
	"strings"
	"testing"
)

func TestSecretsAreNotPrinted(t *testing.T) {
	d := Domain{Name: "acme", Secret: [32]byte{0xaa, 0xbb}}
	k := DomainKey{Epoch: 3, Key: [32]byte{0xaa, 0xbb}}
	for _, form := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{d, k, &d, []DomainKey{k}} {
			if s := fmt.Sprintf(form, v); strings.Contains(s, "187") || strings.Contains(s, "0xbb") || strings.Contains(s, "aabb") {
				t.Errorf("%s shows %s", form, s)
			}
		}
	}
}
