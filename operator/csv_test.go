package operator

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestParseCSV(t *testing.T) {
	text := "\ufeffName, ports ,mac,locations,allow\n# a comment\np1,631 161/udp,02:00:00:00:00:01," + place + ",\"staff,it\"\n\np2,80,02:00:00:00:00:02," + place + ",\n"
	specs, lines, err := ParseCSV(strings.NewReader(text), "acme")
	if err != nil || len(specs) != 2 || !slices.Equal(lines, []int{3, 5}) {
		t.Fatalf("%+v, %v, %v", specs, lines, err)
	}
	if p := specs[0]; p.Name != "p1" || p.Domain != "acme" || !slices.Equal(p.Ports, []string{"631", "161/udp"}) || !slices.Equal(p.Allow, []string{"staff", "it"}) {
		t.Errorf("%+v", p)
	}
	err = Renumber(RowErrors{{Row: 2, Message: "x"}}, lines)
	var rows RowErrors
	if !errors.As(err, &rows) || rows[0].Row != 5 {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", "name\n", "name,ports\n", "name,ports,colour\na,1,red\n", "name,name,ports\n", "mac,ports\n", "name,ports\na\n", "name,ports\n\"a,1\n"} {
		if _, _, err := ParseCSV(strings.NewReader(bad), ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	long := "name,ports\n" + strings.Repeat("a,1\n", MaxBulk+1)
	if _, _, err := ParseCSV(strings.NewReader(long), ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("too long: %v", err)
	}
}

func FuzzParseCSV(f *testing.F) {
	f.Add("name,ports,mac,locations\np,631,02:00:00:00:00:01," + place + "\n")
	f.Add("name,ports\n\"\n\",\n")
	f.Fuzz(func(t *testing.T, s string) {
		specs, lines, err := ParseCSV(strings.NewReader(s), "d")
		if err != nil {
			return
		}
		if len(specs) != len(lines) || len(specs) == 0 || len(specs) > MaxBulk {
			t.Fatalf("%d devices, %d lines", len(specs), len(lines))
		}
		for _, spec := range specs {
			v, err := spec.value()
			if err != nil {
				continue
			}
			back, err := specOf(v).value()
			if err != nil && spec.At == "" && spec.Node == "" {
				t.Fatalf("%+v is not accepted again: %v", spec, err)
			}
			if err == nil && (back.Name != v.Name || len(back.Ports) != len(v.Ports)) {
				t.Fatalf("%+v becomes %+v", v, back)
			}
		}
	})
}
