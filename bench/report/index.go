package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ours are names that FileName makes.
var ours = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d{6}Z\.json$`)

// Read reads what Write wrote.
func Read(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read results: %w", err)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read results in %s: %w", path, err)
	}
	return &r, nil
}

// names are the results in a folder of which the names fit, newest first.
func names(dir string, fit func(string) bool) ([]string, error) {
	l, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read results: %w", err)
	}
	var out []string
	for _, e := range l {
		if fit(e.Name()) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	slices.Reverse(out)
	return out, nil
}

// Latest reads the newest run in a folder that was taken on as many cores; nil and no name where there is none.
func Latest(dir string, cores int) (*Report, string, error) {
	l, err := names(dir, ours.MatchString)
	if err != nil {
		return nil, "", err
	}
	for _, n := range l {
		r, err := Read(filepath.Join(dir, n))
		if err != nil {
			return nil, "", err
		}
		if r.Machine.Cores == cores {
			return r, n, nil
		}
	}
	return nil, "", nil
}

// IndexName is the file that lists a folder's runs.
const IndexName = "README.md"

// Index writes the list of a folder's runs, newest first, into that folder.
func Index(dir string) error {
	var b strings.Builder
	b.WriteString(`# Results

Written by ` + "`make bench`" + `, newest first; also those that got worse. “Worse” counts the figures that are worse than in the run before
by more than the noise: every round than every round then, ratios where there is a reference.

| run | culvert | machine | rounds | wanted, holds | worse | pictures |
| --- | --- | --- | --- | --- | --- | --- |
`)
	l, err := names(dir, ours.MatchString)
	if err != nil {
		return err
	}
	for _, n := range l {
		r, err := Read(filepath.Join(dir, n))
		if err != nil {
			return err
		}
		holds := 0
		for _, c := range r.Claims {
			if c.Judge(r).Holds() {
				holds++
			}
		}
		pictures := ""
		if pics := strings.TrimSuffix(n, ".json"); isDir(filepath.Join(dir, pics)) {
			pictures = fmt.Sprintf("[plots](%s)", pics)
		}
		m := r.Machine
		fmt.Fprintf(&b, "| [%s](%s) | %s | %s, %d cores, %s, %s | %d × %g s | %d of %d | %d | %s |\n", r.Date.UTC().Format("2006-01-02 15:04"), n,
			r.Culvert, m.CPU, m.Cores, m.Kernel, m.Go, r.Rounds, r.Seconds, holds, len(r.Claims), len(r.Worse), pictures)
	}
	others, err := names(dir, func(n string) bool { return strings.HasSuffix(n, ".json") && !ours.MatchString(n) })
	if err != nil {
		return err
	}
	if len(others) > 0 {
		b.WriteString("\nOf other measurements (`make scale`, `make netlab-full`):\n\n")
		for _, n := range others {
			fmt.Fprintf(&b, "- [%s](%s)\n", strings.TrimSuffix(n, ".json"), n)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, IndexName), []byte(b.String()), 0o644); err != nil {
		return fmt.Errorf("write the list of results: %w", err)
	}
	return nil
}

func isDir(path string) bool {
	i, err := os.Stat(path)
	return err == nil && i.IsDir()
}
