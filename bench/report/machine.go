package report

import (
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// Machine is where the run took place.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Load   string `json:"load"` // averages over 1, 5 and 15 minutes before the run
}

// ThisMachine describes the machine as far as it tells.
func ThisMachine(ctx context.Context) Machine {
	return Machine{
		CPU: cpu(), Cores: runtime.NumCPU(), OS: runtime.GOOS, Arch: runtime.GOARCH,
		Kernel: kernel(ctx), Go: runtime.Version(), Load: load(),
	}
}

func cpu() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	return orUnknown(cpuModel(string(b)), "CPU unknown")
}

// cpuModel finds the model in Linux's description of its processors.
func cpuModel(info string) string {
	for line := range strings.Lines(info) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// kernel is the system's core, and how its TCP shares a path, which decides about much of what loopback carries.
func kernel(ctx context.Context) string {
	if b, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control"); err == nil {
		return release(ctx) + ", TCP " + strings.TrimSpace(string(b))
	}
	return release(ctx)
}

func release(ctx context.Context) string {
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		return "kernel " + strings.TrimSpace(string(b))
	}
	return "kernel " + orUnknown(output(ctx, "uname", "-r"), "unknown")
}

func load() string {
	b, _ := os.ReadFile("/proc/loadavg")
	f := strings.Fields(string(b))
	return orUnknown(strings.Join(f[:min(3, len(f))], " "), "unknown")
}

// Version asks the built binary for its version; the benchmarks themselves run the same packages.
func Version(ctx context.Context, bin string) string {
	if bin == "" {
		return "unknown"
	}
	return orUnknown(version(output(ctx, bin, "version")), "unknown")
}

// version takes "culvert VERSION (go1…)" apart.
func version(line string) string {
	v, _, _ := strings.Cut(strings.TrimPrefix(line, "culvert "), " (go")
	return strings.TrimSpace(v)
}

func output(ctx context.Context, name string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return ""
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(first)
}

func orUnknown(s, unknown string) string {
	if s == "" {
		return unknown
	}
	return s
}
