//go:build !windows

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// detach keeps the reader's Ctrl-C from the children: the demo ends them itself, in order.
func detach(c *exec.Cmd) { c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func interrupt(p *os.Process) { p.Signal(syscall.SIGTERM) }
