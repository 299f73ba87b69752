package report

import (
	"math"
	"slices"
)

// Median is the middle value, or the mean of the two in the middle; NaN of none.
func Median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(v))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return s[m]
	}
	return (s[m-1] + s[m]) / 2
}

// Ratio is the median of Ratios.
func Ratio(v, reference []float64) float64 { return Median(Ratios(v, reference)) }

// Ratios are v[i] / reference[i]. The two are of the same round, measured one after the other, so that what slows the machine
// for some seconds slows both. Rounds where there is nothing to divide by are left out.
func Ratios(v, reference []float64) (r []float64) {
	for i := range min(len(v), len(reference)) {
		if reference[i] > 0 {
			r = append(r, v[i]/reference[i])
		}
	}
	return r
}
