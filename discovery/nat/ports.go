package nat

import "slices"

const (
	maxStep   = 1024 // between two flows of a NAT that counts; port numbers in the wrong byte order step by 256
	maxOthers = 8    // steps that others of the same NAT may take in between
)

// sequence finds out whether ports, in the order in which flows were opened, follow each other in even steps. The order is only
// used for the direction: a lost first datagram is sent again later, and takes a later port.
func sequence(ports []uint16) (step uint16, ok bool) {
	if len(ports) < 3 {
		return 0, false
	}
	l := slices.Clone(ports)
	slices.Sort(l)
	gaps := make([]int, 0, len(l))
	for i, p := range l {
		next := l[(i+1)%len(l)]
		gaps = append(gaps, int(next-p)) // modulo 65,536, so that one gap is the way round
	}
	slices.Sort(gaps)
	gaps = gaps[:len(gaps)-1]
	g, ok := even(gaps)
	if n := len(gaps); !ok && n >= 4 {
		g, ok = even(gaps[:n-1]) // the last one may be where the counter begins anew
	}
	if !ok {
		return 0, false
	}
	up := 0
	for i := range len(ports) - 1 {
		if int16(ports[i+1]-ports[i]) > 0 {
			up++
		} else {
			up--
		}
	}
	if up < 0 {
		return uint16(-g), true
	}
	return uint16(g), true
}

// even is the step that sorted gaps are few multiples of.
func even(gaps []int) (step int, ok bool) {
	for _, d := range gaps {
		step = gcd(d, step)
	}
	return step, gaps[0] > 0 && step <= maxStep && gaps[len(gaps)-1] <= maxOthers*step
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
