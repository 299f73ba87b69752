//go:build linux

package device

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"culvert/bench/netlab/lab"
)

const (
	suiteFolder = "/usr/share/cups/ipptool"
	suiteEntry  = "ipp-everywhere.test"
	// page draws what is printed in all tests.
	page = "/Helvetica findfont 40 scalefont setfont 72 700 moveto (culvert) show showpage"
)

var (
	suiteFiles = []string{suiteEntry, "ipp-2.0.test", "ipp-1.1.test", "print-job.test"}
	testBegins = regexp.MustCompile(`(?m)^\{$`)
	testBody   = regexp.MustCompile(`(?ms)^\{$.*?^\}$`)
	makesJob   = regexp.MustCompile(`(?m)^\s*OPERATION (Print-Job|Create-Job)\s*$`)
	byChance   = regexp.MustCompile(`(?m)^\s*SKIP-IF-DEFINED PRINT_JOB_COMPLETED\n`)
	sampleName = regexp.MustCompile(`pwg-raster-samples-\S+\.pwg`)
	verdict    = regexp.MustCompile(`(?m)^ {4}(\S.*?)\s*\[(PASS|FAIL|SKIP)\]$`)
)

// A Suite is the IPP Everywhere conformance test, ready to be run.
type Suite struct{ dir string }

// PrepareSuite copies the test to dir with what Debian leaves out of it: the
// raster samples, for which one page under all names does, and patience with a
// printer that is still at the job before.
func PrepareSuite(ctx context.Context, h *lab.Host, dir string) (*Suite, error) {
	s := &Suite{dir: dir}
	if err := s.render(ctx, h, "pdfwrite", s.Document()); err != nil {
		return nil, err
	}
	raster := filepath.Join(dir, "page.pwg")
	if err := s.render(ctx, h, "pwgraster", raster); err != nil {
		return nil, err
	}
	for _, name := range suiteFiles {
		text, err := os.ReadFile(filepath.Join(suiteFolder, name))
		if err != nil {
			return nil, fmt.Errorf("conformance test: %w", err)
		}
		for _, sample := range sampleName.FindAll(text, -1) {
			if err := link(raster, filepath.Join(dir, string(sample))); err != nil {
				return nil, fmt.Errorf("raster sample: %w", err)
			}
		}
		text = patient(text)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return nil, fmt.Errorf("conformance test: %w", err)
		}
	}
	return s, nil
}

// patient puts a pause before each test, and has those that make a job ask
// again while the printer is busy, as some of them do by themselves. None is
// left out because a job was done when the printer answered, which is chance.
func patient(text []byte) []byte {
	text = byChance.ReplaceAll(text, nil)
	text = testBegins.ReplaceAll(text, []byte("{\n\tDELAY \"0.05,0.2\""))
	return testBody.ReplaceAllFunc(text, func(test []byte) []byte {
		if !makesJob.Match(test) || bytes.Contains(test, []byte("server-error-busy")) {
			return test
		}
		return slices.Concat(bytes.TrimSuffix(test, []byte("}")), []byte("\tSTATUS server-error-busy REPEAT-MATCH REPEAT-LIMIT 100\n}"))
	})
}

// link gives a file one more name, once.
func link(file, name string) error {
	if exists(name) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.Link(file, name)
}

func (s *Suite) render(ctx context.Context, h *lab.Host, format, file string) error {
	res, err := h.Run(ctx, nil, "gs", "-q", "-dSAFER", "-dBATCH", "-dNOPAUSE", "-r150", "-sDEVICE="+format, "-o", file, "-c", page)
	if err != nil {
		return err
	}
	if res.Code != 0 {
		return fmt.Errorf("gs ended with %d: %s%s", res.Code, res.Stdout, res.Stderr)
	}
	return nil
}

// Document is a PDF file of one page.
func (s *Suite) Document() string { return filepath.Join(s.dir, "document.pdf") }

// A Report is what the conformance test says: one line for each test.
type Report []Line

// A Line is one test and its verdict: PASS, FAIL or SKIP.
type Line struct{ Test, Verdict string }

// Count is how many tests have the verdict.
func (r Report) Count(verdict string) int {
	n := 0
	for _, l := range r {
		if l.Verdict == verdict {
			n++
		}
	}
	return n
}

// Diff lists the lines in which other is not like r.
func (r Report) Diff(other Report) []string {
	var diff []string
	for i := range max(len(r), len(other)) {
		var a, b Line
		if i < len(r) {
			a = r[i]
		}
		if i < len(other) {
			b = other[i]
		}
		if a != b {
			diff = append(diff, fmt.Sprintf("line %d: %s [%s], and %s [%s]", i+1, a.Test, a.Verdict, b.Test, b.Verdict))
		}
	}
	return diff
}

// String is the report as ipptool prints it.
func (r Report) String() string {
	var b strings.Builder
	for _, l := range r {
		fmt.Fprintf(&b, "%s [%s]\n", l.Test, l.Verdict)
	}
	return b.String()
}

func parseReport(output []byte) Report {
	var r Report
	for _, m := range verdict.FindAllSubmatch(output, -1) {
		r = append(r, Line{Test: string(m[1]), Verdict: string(m[2])})
	}
	return r
}

// Run runs the conformance test from a host against the printer at uri. A
// printer that fails tests is not an error here.
func (s *Suite) Run(ctx context.Context, from *lab.Host, uri string) (Report, error) {
	res, err := from.Run(ctx, nil, "ipptool", "-t", "-I", "-f", s.Document(), uri, filepath.Join(s.dir, suiteEntry))
	if err != nil {
		return nil, err
	}
	report := parseReport(res.Stdout)
	if len(report) == 0 {
		return nil, fmt.Errorf("ipptool ended with %d and no verdict: %s%s", res.Code, res.Stdout, res.Stderr)
	}
	return report, nil
}

// Print prints a file from a host on the printer at uri.
func (s *Suite) Print(ctx context.Context, from *lab.Host, uri, file string) error {
	res, err := from.Run(ctx, nil, "ipptool", "-t", "-f", file, uri, filepath.Join(s.dir, "print-job.test"))
	if err != nil {
		return err
	}
	if res.Code != 0 || !bytes.Contains(res.Stdout, []byte("[PASS]")) {
		return fmt.Errorf("print %s: ipptool ended with %d: %s%s", file, res.Code, res.Stdout, res.Stderr)
	}
	return nil
}
