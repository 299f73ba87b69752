package proc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

const (
	profileVariable = "CULVERT_BENCH_PROFILE"
	cpuKind         = ".cpu"
	heapKind        = ".heap"
)

// Profile has this process, and every part that it starts from now on, write profiles into a folder: NAME.cpu and NAME.heap, this
// process under the name “load”, a part from when it is ready. They replace those of an earlier run. stop writes this one's.
func Profile(dir string) (stop func() error, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	for _, kind := range []string{cpuKind, heapKind} {
		old, err := filepath.Glob(filepath.Join(dir, "*"+kind))
		if err != nil {
			return nil, fmt.Errorf("profile: %w", err)
		}
		for _, f := range old {
			if err := os.Remove(f); err != nil {
				return nil, fmt.Errorf("profile: %w", err)
			}
		}
	}
	if err := os.Setenv(profileVariable, dir); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	end, err := profile(filepath.Join(dir, "load"))
	if err != nil {
		return nil, err
	}
	return func() error { return errors.Join(end(), os.Unsetenv(profileVariable)) }, nil
}

// profile starts a CPU profile; stop ends it and writes the heap's.
func profile(name string) (stop func() error, err error) {
	cpu, err := os.Create(name + cpuKind)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(fmt.Errorf("profile: %w", err), cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		heap, err := os.Create(name + heapKind)
		if err != nil {
			return errors.Join(fmt.Errorf("profile: %w", err), cpu.Close())
		}
		runtime.GC()
		return errors.Join(pprof.WriteHeapProfile(heap), heap.Close(), cpu.Close())
	}, nil
}

// profilePart is profile for a part, of which several may run.
func profilePart(part string) (stop func() error, err error) {
	dir := os.Getenv(profileVariable)
	if dir == "" {
		return func() error { return nil }, nil
	}
	name := filepath.Join(dir, part)
	if _, err := os.Stat(name + cpuKind); err == nil {
		name = fmt.Sprintf("%s-%d", name, os.Getpid())
	}
	return profile(name)
}
