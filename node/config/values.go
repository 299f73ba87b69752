package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Duration is a time.Duration written as "30s" or "5m".
type Duration time.Duration

// D returns d as the standard library's type.
func (d Duration) D() time.Duration { return time.Duration(d) }

// String writes d as it is written in the file.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalText writes d as it is written in the file.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads "30s", "5m", "1h30m".
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%.40q is not a duration: write it as \"30s\" or \"5m\"", text)
	}
	*d = Duration(v)
	return nil
}

// Bytes is a number of bytes written as "500MB" or "64GiB".
type Bytes int64

type byteUnit struct {
	suffix string
	size   int64
}

// byteUnits lists longer suffixes first, so that "B" alone is tried last.
func byteUnits() []byteUnit {
	return []byteUnit{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"B", 1},
	}
}

// String writes b in the largest unit that leaves no remainder.
func (b Bytes) String() string {
	if b == 0 {
		return "0"
	}
	for _, u := range byteUnits() {
		if int64(b)%u.size == 0 && u.size > 1 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText writes b as it is written in the file.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText reads a whole number with an optional unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits, size := strings.TrimSpace(string(text)), int64(1)
	for _, u := range byteUnits() {
		if rest, ok := strings.CutSuffix(digits, u.suffix); ok {
			digits, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || int64(n) > math.MaxInt64/size {
		return fmt.Errorf("%.40q is not a size: write it as \"500MB\" or \"64GiB\", without a fraction", text)
	}
	*b = Bytes(int64(n) * size)
	return nil
}

// Port is a device's port, written "631" or "161/udp".
type Port struct {
	Number uint16
	UDP    bool
}

// ParsePort reads "631", "631/tcp" or "161/udp".
func ParsePort(s string) (Port, error) {
	number, proto, named := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	known := !named || proto == "tcp" || proto == "udp"
	if err != nil || n == 0 || !known || strings.HasPrefix(number, "+") {
		return Port{}, fmt.Errorf("%.40q is not a port: write it as \"631\" or \"161/udp\"", s)
	}
	return Port{Number: uint16(n), UDP: proto == "udp"}, nil
}

// String writes p as ParsePort reads it.
func (p Port) String() string {
	s := strconv.Itoa(int(p.Number))
	if p.UDP {
		s += "/udp"
	}
	return s
}

// MarshalText writes p as ParsePort reads it.
func (p Port) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText is ParsePort.
func (p *Port) UnmarshalText(text []byte) error {
	v, err := ParsePort(string(text))
	if err == nil {
		*p = v
	}
	return err
}
