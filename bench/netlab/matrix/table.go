package matrix

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"culvert/tunnel"
)

// Print writes the results for people: a line of users' sites, a column of
// devices' sites, and in each cell
//
//	P5 0.2 0.9
//
// the first letter of the route that was taken most, how many runs took the
// expected route or a better one (a slash and the number of runs where some did
// not), the median seconds to the first byte, and to the best route.
func (r *Results) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var users, devices []Kind
	for _, k := range Kinds() {
		if slices.ContainsFunc(r.Pairs, func(m *Met) bool { return m.User == k }) {
			users = append(users, k)
		}
		if slices.ContainsFunc(r.Pairs, func(m *Met) bool { return m.Device == k }) {
			devices = append(devices, k)
		}
	}
	fmt.Fprint(t, "device \\ user")
	for _, u := range users {
		fmt.Fprintf(t, "\t%s", u)
	}
	fmt.Fprintln(t)
	for _, d := range devices {
		fmt.Fprint(t, d)
		for _, u := range users {
			fmt.Fprintf(t, "\t%s", r.cell(Pair{User: u, Device: d}))
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "D direct, M mapped, P punched, R relayed, - none; runs as expected; median seconds to the first byte, to the best route\n\n")
	for _, p := range r.Problems {
		fmt.Fprintf(w, "no agent at the %s's site %s: %s\n", p.Side, p.Kind, p.Error)
	}
	for _, c := range r.Netcheck {
		if c.Got != c.Expected || c.Error != "" {
			fmt.Fprintf(w, "netcheck at the %s's site %s says %q, expected %q %s\n", c.Side, c.Kind, c.Got, c.Expected, c.Error)
		}
	}
	r.printFailures(w)
	for _, d := range r.Demands {
		verdict := "pass"
		if !d.Passed {
			verdict = "FAIL"
		}
		fmt.Fprintf(w, "%s  %s: %s\n", verdict, d.Name, d.Got)
	}
	_, err := fmt.Fprintf(w, "%d pairs, %d rounds, %.0f s\n", len(r.Pairs), r.Rounds, r.Seconds)
	return err
}

// printFailures writes a line for each pair that was not always as expected,
// but for those of a site of which was said that it is of no use.
func (r *Results) printFailures(w io.Writer) {
	for _, m := range r.Pairs {
		if r.useless(m.User, userSide) || r.useless(m.Device, deviceSide) {
			continue
		}
		var rounds []string
		var last Run
		for _, run := range m.Runs {
			if !run.Up || !asGood(run.Route, m.Expected) {
				rounds, last = append(rounds, fmt.Sprint(run.Round)), run
			}
		}
		if len(rounds) > 0 {
			got := orNone(last.Route)
			if !last.Up {
				got += ", down"
			}
			fmt.Fprintf(w, "%s to %s, round %s: %s instead of %s: %.250s\n", m.User, m.Device, strings.Join(rounds, ", "), got, m.Expected, last.Error)
		}
	}
}

func (r *Results) useless(k Kind, side string) bool {
	return slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Kind == k && p.Side == side })
}

func (r *Results) cell(p Pair) string {
	i := slices.IndexFunc(r.Pairs, func(m *Met) bool { return m.Pair == p })
	if i < 0 {
		return ""
	}
	m := r.Pairs[i]
	var expected tally
	counts := make(map[tunnel.Route]int)
	var first, best []float64
	for _, run := range m.Runs {
		expected.add(run.Up && asGood(run.Route, m.Expected))
		counts[run.Route]++
		if run.Up {
			first = append(first, run.FirstByteMS)
		}
		if run.BestMS > 0 {
			best = append(best, run.BestMS)
		}
	}
	most := m.Runs[0].Route
	for _, route := range tunnel.Routes() {
		if counts[route] > counts[most] {
			most = route
		}
	}
	runs := fmt.Sprint(expected.good)
	if expected.good != expected.all {
		runs = fmt.Sprintf("%d/%d", expected.good, expected.all)
	}
	return fmt.Sprintf("%s%s %s %s", letter(most), runs, seconds(first), seconds(best))
}

func letter(r tunnel.Route) string {
	if r == "" {
		return "-"
	}
	return strings.ToUpper(string(r[:1]))
}

func seconds(ms []float64) string {
	if len(ms) == 0 {
		return "-"
	}
	slices.Sort(ms)
	return fmt.Sprintf("%.1f", ms[len(ms)/2]/1000)
}

func orNone(r tunnel.Route) string {
	if r == "" {
		return "no route"
	}
	return string(r)
}
