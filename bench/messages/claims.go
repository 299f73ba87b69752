package messages

import "culvert/bench/report"

// Claims are what the cells of a table shall show.
func (b *Bench) Claims(table string) []report.Claim {
	beside := func(text, row, reference string, want float64) report.Claim {
		return report.Claim{Text: text, In: table, Row: b.label(row), To: []string{b.label(reference)}, Want: want}
	}
	return []report.Claim{
		beside("sealed Ping, many peers", pingMany, sealedMany, 0.9),
		{Text: "sealed Ping, one peer, packed", In: table, Row: b.label(pingDeep), Want: 1_000_000},
		beside("signed Ping", pingSigned, publicEcho, 0.9),
	}
}
