package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// explain gives a decoder's error its file, its line and what to do.
func explain(name string, err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		e := unknown.Errors[0]
		row, _ := e.Position()
		key := strings.Join(e.Key(), ".")
		return fmt.Errorf("%s:%d: there is no setting %q: correct its name or remove the line", name, row, key)
	}
	var bad *toml.DecodeError
	if errors.As(err, &bad) {
		row, column := bad.Position()
		what := plain(strings.TrimPrefix(bad.Error(), "toml: "))
		if key := strings.Join(bad.Key(), "."); key != "" {
			what = key + ": " + what
		}
		if !strings.Contains(what, "write ") {
			what += ": correct the line"
		}
		return fmt.Errorf("%s:%d:%d: %s", name, row, column, what)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// plain says in words of the file what the decoder says in words of Go.
func plain(what string) string {
	if strings.HasPrefix(what, "expected keyword") {
		return "write true, false, a number, a text in quotes, or a list of texts in brackets"
	}
	if !strings.HasPrefix(what, "cannot decode TOML") {
		return what
	}
	_, kind, _ := strings.Cut(what, " of type ")
	if strings.HasPrefix(kind, "config.") {
		return "this is a table: write its name in brackets, on a line of its own, above its settings"
	}
	switch kind {
	case "bool":
		return "write true or false, without quotes"
	case "int":
		return "write a whole number, without quotes"
	case "string":
		return "write a text, in quotes"
	case "[]string":
		return `write a list of texts: ["one", "two"]`
	}
	return what
}

// locate gives an error of check the line of the setting, or of the table that lacks it.
func locate(name string, data []byte, err error) error {
	var bad *invalid
	if !errors.As(err, &bad) {
		return fmt.Errorf("%s: %w", name, err)
	}
	if line := lineOf(data, strings.Split(bad.setting, "."), bad.entry); line > 0 {
		return fmt.Errorf("%s:%d: %w", name, line, err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

// lineOf finds the line on which a key of a document that decodes is set, or its entry-th table of an array begins; 0 if nowhere.
func lineOf(data []byte, key []string, entry int) int {
	var p unstable.Parser
	p.Reset(data)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		path, line := keyOf(&p, e)
		switch e.Kind {
		case unstable.KeyValue:
			if slices.Equal(append(slices.Clone(table), path...), key) {
				return line
			}
		case unstable.Table:
			table = path
		case unstable.ArrayTable:
			table = path
			if slices.Equal(path, key) {
				if entry == 0 {
					return line
				}
				entry--
			}
		}
	}
	return 0
}

func keyOf(p *unstable.Parser, e *unstable.Node) (path []string, line int) {
	if e.Kind != unstable.KeyValue && e.Kind != unstable.Table && e.Kind != unstable.ArrayTable {
		return nil, 0
	}
	for it := e.Key(); it.Next(); {
		path = append(path, string(it.Node().Data))
		line = p.Shape(it.Node().Raw).Start.Line
	}
	return path, line
}
