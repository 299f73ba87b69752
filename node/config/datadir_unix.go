//go:build !windows

package config

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
)

// protect lets the group culvert pass through a directory that was made 0700.
func protect(dir string) error {
	group, err := user.LookupGroup(Group)
	if err != nil {
		return nil
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil || os.Chown(dir, -1, gid) != nil {
		return nil // not a member: the directory stays this user's own
	}
	if err := os.Chmod(dir, 0o710); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}
