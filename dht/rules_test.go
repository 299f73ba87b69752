package dht_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The DHT decides and stores; whoever opens sockets is elsewhere.
func TestNoSockets(t *testing.T) {
	banned := []string{"net", "net/http", "syscall", "golang.org/x/net", "culvert/node", "culvert/operator", "culvert/tunnel", "culvert/discovery",
		"culvert/protocol/carrier", "culvert/protocol/endpoint"}
	for _, dir := range []string{".", "index", "memstore", "sqlite", "storetest", "../partition"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files: %v", dir, len(files), err)
		}
		for _, name := range files {
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, imp := range f.Imports {
				p, err := strconv.Unquote(imp.Path.Value)
				if err != nil {
					t.Fatal(err)
				}
				for _, b := range banned {
					if p == b || strings.HasPrefix(p, b+"/") && b != "net" {
						t.Errorf("%s imports %s", name, p)
					}
				}
				if dir == "../partition" && (p == "sync" || p == "database/sql" || p == "os") && !strings.HasSuffix(name, "_test.go") {
					t.Errorf("%s is not pure: imports %s", name, p)
				}
			}
		}
	}
}
