package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Group is the group of people who may use the agent's socket, where the system has such a group.
const Group = "culvert"

// DataDir returns the data directory as an absolute path: the flag's value, else CULVERT_DATA, else the default of this
// system. getenv is os.Getenv.
func DataDir(flag string, getenv func(string) string) (string, error) {
	dir := flag
	if dir == "" {
		dir = getenv("CULVERT_DATA")
	}
	if dir == "" {
		home, _ := os.UserHomeDir()
		dir = defaultDataDir(runtime.GOOS, os.Geteuid() == 0, home, getenv)
	}
	if dir == "" {
		return "", fmt.Errorf("%w: no data directory: there is no home directory, so name one with --data or CULVERT_DATA", ErrConfig)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("data directory %s: %w", dir, err)
	}
	return abs, nil
}

// SystemDataDir returns where a daemon that runs as a service of this system keeps its data.
func SystemDataDir() string {
	home, _ := os.UserHomeDir()
	return defaultDataDir(runtime.GOOS, true, home, os.Getenv)
}

func defaultDataDir(goos string, root bool, home string, getenv func(string) string) string {
	switch {
	case goos == "windows":
		if base := getenv("ProgramData"); base != "" {
			return filepath.Join(base, "culvert")
		}
		return `C:\ProgramData\culvert`
	case goos == "darwin" && root:
		return "/Library/Application Support/culvert"
	case goos == "darwin" && home != "":
		return filepath.Join(home, "Library", "Application Support", "culvert")
	case goos != "darwin" && root:
		return "/var/lib/culvert"
	case goos != "darwin" && filepath.IsAbs(getenv("XDG_STATE_HOME")):
		return filepath.Join(getenv("XDG_STATE_HOME"), "culvert")
	case home != "":
		return filepath.Join(home, ".local", "state", "culvert")
	}
	return ""
}

// MakeDataDir makes the data directory where there is none, with mode 0700. Where the group culvert exists and this process
// may give the directory to it, the mode is 0710: the group can reach agent.sock in it, and list nothing. A directory that
// exists is left as it is, and refused if everybody may write in it. On Windows only the system, administrators and the
// user who makes it have access.
func MakeDataDir(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(dir), 0o755); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
		if err != nil {
			return fmt.Errorf("make the data directory: %w: choose another with --data", err)
		}
		return protect(dir)
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%w: %s is not a directory: choose another with --data", ErrConfig, dir)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("%w: everybody may write in %s: run chmod o-w on it or choose another with --data", ErrConfig, dir)
	}
	return nil
}
