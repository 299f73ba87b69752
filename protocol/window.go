package protocol

// WindowSize is how many counters back a sealed message may arrive late.
const WindowSize = 2048

const windowWords = WindowSize/64 + 1 // one word more, so that a whole word can be cleared ahead

// window remembers which counters have been seen (RFC 6479). Counters start at 1.
type window struct {
	top  uint64
	bits [windowWords]uint64
}

// fits reports whether the counter is new and not too old.
func (w *window) fits(c uint64) bool {
	if c == 0 || c+WindowSize <= w.top {
		return false
	}
	return c > w.top || w.bits[c/64%windowWords]&(1<<(c%64)) == 0
}

// mark takes in a counter that fits.
func (w *window) mark(c uint64) {
	if c > w.top {
		from, to := w.top/64, c/64
		for i := from + 1; i <= to && i <= from+windowWords; i++ {
			w.bits[i%windowWords] = 0
		}
		w.top = c
	}
	w.bits[c/64%windowWords] |= 1 << (c % 64)
}
