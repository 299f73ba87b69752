package operator

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// csvColumns are the columns of an import file, in any order and number; name and ports must be there.
func csvColumns() []string {
	return []string{"name", "domain", "mac", "address", "node", "ports", "locations", "at", "tls_key", "allow"}
}

// MaxCSV bounds an import file.
const MaxCSV = 8 << 20

// ParseCSV reads an import file: a header line, then a device a line; lists within a cell are separated by spaces, semicolons or commas (quoted).
// lines are the line numbers of the devices, for RowErrors.
func ParseCSV(r io.Reader, domain string) (specs []DeviceSpec, lines []int, err error) {
	c := csv.NewReader(io.LimitReader(r, MaxCSV))
	c.TrimLeadingSpace, c.Comment, c.ReuseRecord = true, '#', true
	header, err := c.Read()
	if err != nil {
		return nil, nil, invalid("no header line: name its columns, out of %s", strings.Join(csvColumns(), ","))
	}
	columns := make([]string, len(header))
	for i, h := range header {
		if i == 0 {
			h = strings.TrimPrefix(h, "\ufeff") // spreadsheets write it
		}
		columns[i] = strings.ToLower(strings.TrimSpace(h))
		if !slices.Contains(csvColumns(), columns[i]) || slices.Contains(columns[:i], columns[i]) {
			return nil, nil, invalid("column %.40q is not known or there twice; columns are %s", h, strings.Join(csvColumns(), ","))
		}
	}
	if !slices.Contains(columns, "name") || !slices.Contains(columns, "ports") {
		return nil, nil, invalid("the columns name and ports must be there")
	}
	var bad RowErrors
	for {
		row, err := c.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		var pe *csv.ParseError
		if errors.As(err, &pe) {
			return nil, nil, append(bad, RowError{Row: pe.Line, Message: pe.Err.Error()})
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the file: %w", err)
		}
		if len(specs) == MaxBulk {
			return nil, nil, invalid("more than %d devices; split the file", MaxBulk)
		}
		line, _ := c.FieldPos(0)
		specs, lines = append(specs, csvSpec(columns, row, domain)), append(lines, line)
	}
	if len(specs) == 0 {
		return nil, nil, invalid("no device in the file")
	}
	return specs, lines, nil
}

func csvSpec(columns, row []string, domain string) DeviceSpec {
	s := DeviceSpec{Domain: domain}
	for i, name := range columns {
		v := strings.TrimSpace(strings.Clone(row[i]))
		if v == "" {
			continue
		}
		switch name {
		case "name":
			s.Name = v
		case "domain":
			s.Domain = v
		case "mac":
			s.MAC = v
		case "address":
			s.Address = v
		case "node":
			s.Node = v
		case "at":
			s.At = v
		case "tls_key":
			s.TLSKey = v
		case "ports":
			s.Ports = splitList(v)
		case "locations":
			s.Locations = splitList(v)
		case "allow":
			s.Allow = splitList(v)
		}
	}
	return s
}

func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ';' || r == ',' })
}

// Renumber gives row errors the line numbers of the file that the rows came from.
func Renumber(err error, lines []int) error {
	var rows RowErrors
	if !errors.As(err, &rows) {
		return err
	}
	out := slices.Clone(rows)
	for i := range out {
		if n := out[i].Row; n >= 1 && n <= len(lines) {
			out[i].Row = lines[n-1]
		}
	}
	return out
}
