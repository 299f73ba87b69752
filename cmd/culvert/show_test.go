package main

import (
	"testing"
	"time"
)

func TestShowBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 9940: "9.9 kB", 9960: "10 kB", 999_499: "999 kB", 999_600: "1.0 MB",
		8_388_608: "8.4 MB", 200e6: "200 MB", 5e12: "5.0 TB", 5e15: "5000 TB",
	} {
		if got := showBytes(n); got != want {
			t.Errorf("%d bytes: %q, not %q", n, got, want)
		}
	}
}

func TestShowDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min", 3*time.Hour + 12*time.Minute: "3 h 12 min",
		25 * time.Hour: "1 d 1 h", 30 * 24 * time.Hour: "30 days",
	} {
		if got := showDuration(d); got != want {
			t.Errorf("%v: %q, not %q", d, got, want)
		}
	}
}
