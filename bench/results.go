package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"culvert/bench/report"
)

// keep compares a whole run with the one before and writes it, its pictures and the list of all runs.
func keep(o *options, r *report.Report, w io.Writer) error {
	if !o.whole() {
		return nil
	}
	before, name, err := report.Latest(o.results, r.Machine.Cores)
	if err != nil {
		return err
	}
	if before != nil {
		var compared int
		if r.Worse, compared = r.WorseThan(before); compared > 0 {
			if err := report.PrintWorse(w, r.Worse, compared, name); err != nil {
				return err
			}
		}
	}
	file := filepath.Join(o.results, report.FileName(r.Date))
	if err := r.Write(file); err != nil {
		return err
	}
	pictures := strings.TrimSuffix(file, ".json")
	if err := r.Draw(pictures); err != nil {
		return err
	}
	if err := report.Index(o.results); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\nresults in %s, pictures in %s, all runs in %s\n", file, pictures, filepath.Join(o.results, report.IndexName))
	return err
}
