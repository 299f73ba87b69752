package protocol

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules of the house that a machine can hold the tree to.

type source struct {
	file string // from the module's root, with slashes
	dir  string
	test bool
	text []byte
	ast  *ast.File
	fset *token.FileSet
}

func (s *source) imports() (l []string) {
	for _, i := range s.ast.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		l = append(l, p)
	}
	return l
}

func (s *source) generated() bool { return ast.IsGenerated(s.ast) }

// tree parses every Go file of the module, whatever its build constraints.
func tree(t *testing.T) (l []*source) {
	t.Helper()
	root, err := filepath.Abs("..")
	must(t, err)
	must(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == "testdata" || name == "bin" || p != root && strings.HasPrefix(name, ".")) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		s := &source{file: filepath.ToSlash(rel), test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet()}
		s.dir = path.Dir(s.file)
		if s.text, err = os.ReadFile(p); err != nil {
			return err
		}
		if s.ast, err = parser.ParseFile(s.fset, s.file, s.text, parser.ParseComments); err != nil {
			return err
		}
		l = append(l, s)
		return nil
	}))
	if len(l) < 20 {
		t.Fatalf("only %d files found", len(l))
	}
	return l
}

func TestTreeIsFormatted(t *testing.T) {
	for _, s := range tree(t) {
		if want, err := format.Source(s.text); err != nil || !bytes.Equal(want, s.text) {
			t.Errorf("%s is not gofmt'ed (%v)", s.file, err)
		}
	}
}

func TestEveryPackageHasADoc(t *testing.T) {
	docs := make(map[string]bool)
	for _, s := range tree(t) {
		if s.test {
			continue
		}
		has := s.ast.Doc != nil && (strings.HasPrefix(s.ast.Doc.Text(), "Package "+s.ast.Name.Name+" ") || s.ast.Name.Name == "main")
		docs[s.dir] = docs[s.dir] || has || s.generated()
	}
	for dir, ok := range docs {
		if !ok {
			t.Errorf("%s has no package doc", dir)
		}
	}
}

// layers is who may import whom within the module: a folder, and all beneath it unless a longer entry fits, may import these
// folders, itself and what is beneath it.
var layers = map[string][]string{
	"protocol/key":      {},
	"protocol":          {"protocol/key"},
	"protocol/endpoint": {"protocol", "protocol/key"},
	"protocol/carrier":  {"protocol", "protocol/key"},
	"protocol/enrol":    {"protocol", "protocol/key"},
	"partition":         {"protocol"},
	"discovery":         {"protocol"},
	"dht":               {"protocol", "partition"},
	"tunnel":            {"protocol", "tunnel"},
	"operator":          {"protocol", "partition", "dht"},
	"node":              {"protocol", "partition", "dht", "tunnel", "discovery"},
	"cmd":               {"protocol", "partition", "dht", "tunnel", "discovery", "operator", "node"},
	"bench":             {"protocol", "partition", "dht", "tunnel", "discovery", "operator", "node"},
}

func TestImportsFollowTheLayers(t *testing.T) {
	for _, s := range tree(t) {
		owner := ""
		for dir := range layers {
			if under(s.dir, dir) && len(dir) > len(owner) {
				owner = dir
			}
		}
		if owner == "" {
			t.Errorf("%s is in no folder of the layout", s.file)
			continue
		}
		for _, p := range s.imports() {
			p, ours := strings.CutPrefix(p, "culvert/")
			if !ours || under(p, owner) && owner != "protocol" && owner != "node" {
				continue
			}
			allowed := slices.ContainsFunc(layers[owner], func(l string) bool { return under(p, l) })
			switch {
			case s.test: // tests may build a world around what they test, but no circles or commands
				allowed = !under(p, "cmd") && !under(p, "bench")
			case owner == "protocol" && p == "protocol" && s.dir != "protocol":
				allowed = true
			case owner == "node" && under(p, "node"):
				allowed = s.dir == "node" || p != "node" // node wires its rooms, no room wires node
			}
			if !allowed {
				t.Errorf("%s imports %s", s.file, p)
			}
		}
	}
}

// onlyBench is what the benchmark compares with, and what nobody who installs culvert shall carry.
const onlyBench = "github.com/hashicorp/yamux"

func TestPeersAreInTheBenchmarkOnly(t *testing.T) {
	for _, s := range tree(t) {
		if slices.Contains(s.imports(), onlyBench) && !under(s.dir, "bench") {
			t.Errorf("%s imports %s", s.file, onlyBench)
		}
	}
}

func under(dir, top string) bool { return dir == top || strings.HasPrefix(dir, top+"/") }

// impure is what package protocol and its endpoint may not reach: sockets, files, the clock, randomness of their own.
var impure = regexp.MustCompile(`^(net|os|os/.*|syscall|io/fs|io/ioutil|database/.*|log|log/.*|crypto/rand|math/rand|math/rand/v2|net/http|crypto/tls|golang.org/x/(net|sys)/.*)$`)

var clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

func TestProtocolIsPure(t *testing.T) {
	for _, s := range tree(t) {
		if s.test || s.dir != "protocol" && s.dir != "protocol/endpoint" && s.dir != "partition" {
			continue
		}
		for _, p := range s.imports() {
			if impure.MatchString(p) {
				t.Errorf("%s imports %s", s.file, p)
			}
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", s.fset.Position(n.Pos()))
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clocks, n.Sel.Name) {
					t.Errorf("%s reads the clock", s.fset.Position(n.Pos()))
				}
			}
			return true
		})
	}
}

// TestOnlyProtocolMakesVerified: handlers believe what is in a Verified, so nobody else may fill one in.
func TestOnlyProtocolMakesVerified(t *testing.T) {
	for _, s := range tree(t) {
		if s.test || s.dir == "protocol" {
			continue
		}
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok {
				if sel, ok := lit.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Verified" {
					t.Errorf("%s makes a Verified", s.fset.Position(lit.Pos()))
				}
			}
			return true
		})
	}
}

// unfinished is put together from halves, so that this file passes its own test.
var unfinished = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b|not yet ` + `implemented`)

func TestManners(t *testing.T) {
	for _, s := range tree(t) {
		if s.generated() {
			continue
		}
		if m := unfinished.Find(s.text); m != nil {
			t.Errorf("%s says %s", s.file, m)
		}
		if n := bytes.Count(s.text, []byte("\n")); n > 400 && !s.test {
			t.Errorf("%s has %d lines", s.file, n)
		}
		if name := s.ast.Name.Name; name == "util" || name == "utils" || name == "common" || name == "helpers" {
			t.Errorf("%s is in a drawer called %s", s.file, name)
		}
		for _, d := range s.ast.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s has an init function", s.file)
			}
		}
		bubble := slices.Contains(s.imports(), "testing/synctest") // where sleeping takes no time
		ast.Inspect(s.ast, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); ok {
				x, _ := sel.X.(*ast.Ident)
				at := s.fset.Position(call.Pos())
				switch {
				case s.test && !bubble && x != nil && x.Name == "time" && sel.Sel.Name == "Sleep":
					t.Errorf("%s sleeps in a test", at)
				case s.test && x != nil && (x.Name == "t" || x.Name == "b" || x.Name == "f") && strings.HasPrefix(sel.Sel.Name, "Skip"):
					t.Errorf("%s skips a test", at)
				}
			}
			return true
		})
	}
}
