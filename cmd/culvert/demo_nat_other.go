//go:build !linux

package main

import (
	"context"
	"errors"
)

var errDemoInside = errors.New("the demo between NATs failed")

func natInside() bool { return false }

func runDemoNAT(context.Context, *demo) error {
	return errors.New("demo --nat builds networks out of Linux's namespaces; on this system run: culvert demo")
}

// demoNet is there on Linux only.
type demoNet struct{ maps bool }

func buildDemoNet(context.Context, string) (*demoNet, error) { return nil, errDemoInside }
func (*demoNet) stop()                                       {}
func (*demoNet) prefix(string) []string                      { return nil }
func (*demoNet) summary() string                             { return "" }
func (*demoNet) mac(string) string                           { return "" }
func (*demoNet) inside(string, func() error) error           { return errDemoInside }
