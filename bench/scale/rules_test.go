package main

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"testing"
	"time"
)

// TestRulesAreTheCodes: the intervals and counts that packages keep to themselves are in the model what they are in the code.
func TestRulesAreTheCodes(t *testing.T) {
	for _, c := range []struct {
		dir, name string
		value     int64
	}{
		{"node", "refreshIdle", int64(codeRefreshIdle)},
		{"node", "refreshBusy", int64(codeRefreshBusy)},
		{"node", "activePing", int64(codeActivePing)},
		{"node", "silentInterval", int64(codeSilentInterval)},
		{"node", "wantHomes", codeWantHomes},
		{"operator", "watchInterval", int64(codeWatch)},
		{"operator/care", "HandOverTick", int64(codeHandOverTick)},
		{"operator/care", "askEvery", int64(codeSpyEvery)},
		{"operator/care", "maxRate", codeSpyRate},
		{"operator", "nodeLife", int64(codeNodeLife)},
		{"dht", "readQuorum", codeReadQuorum},
		{"dht", "writeQuorum", codeWriteQuorum},
		{"dht", "lateFactor", int64(codeAskLife / codeTimeout)},
		{"protocol/endpoint", "firstRetry", int64(codeFirstRetry)},
		{"tunnel", "mostRelays", codeMostRelays},
	} {
		got, ok := constantOf(t, c.dir, c.name)
		if !ok {
			t.Errorf("%s has no constant %s any more: what the model takes from it is to be looked at again", c.dir, c.name)
		} else if got != c.value {
			t.Errorf("%s.%s is %d, the model has %d", c.dir, c.name, got, c.value)
		}
	}
}

// constantOf reads a constant of whole numbers and units of time from a package's source.
func constantOf(t *testing.T, dir, name string) (int64, bool) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", filepath.FromSlash(dir), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %d files", dir, err, len(files))
	}
	fset := token.NewFileSet()
	units := types.NewPackage("time", "time")
	for n, d := range map[string]time.Duration{"Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour} {
		units.Scope().Insert(types.NewConst(token.NoPos, units, n, types.Typ[types.UntypedInt], constant.MakeInt64(int64(d))))
	}
	for _, file := range files {
		f, err := parser.ParseFile(fset, file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v, ok := s.(*ast.ValueSpec)
				if !ok || len(v.Values) != len(v.Names) {
					continue
				}
				for i, n := range v.Names {
					if n.Name != name {
						continue
					}
					scope := types.NewPackage("here", "here")
					scope.Scope().Insert(types.NewPkgName(token.NoPos, scope, "time", units))
					tv, err := types.Eval(fset, scope, token.NoPos, types.ExprString(v.Values[i]))
					if err != nil {
						t.Fatalf("%s.%s: %v", dir, name, err)
					}
					k, exact := constant.Int64Val(tv.Value)
					return k, exact
				}
			}
		}
	}
	return 0, false
}
