package api

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

// update is for go generate.
var update = flag.Bool("update", false, "note what the generated file was made from")

// TestGeneratedFromThisSpec fails where the description of the API changed and go generate was not run, or where the
// generated file was changed by hand.
func TestGeneratedFromThisSpec(t *testing.T) {
	const note = "generated.sha256"
	var now strings.Builder
	for _, name := range []string{"../../localapi/openapi.yaml", "oapi-codegen.yaml", "generate.go", "api.gen.go"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&now, "%x  %s\n", sha256.Sum256(data), name)
	}
	if *update {
		if err := os.WriteFile(note, []byte(now.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	then, err := os.ReadFile(note)
	if err != nil {
		t.Fatal(err)
	}
	if string(then) != now.String() {
		t.Errorf("run go generate ./node/client/api and commit what it writes; noted:\n%snow:\n%s", then, now.String())
	}
}
