//go:build linux

package lab

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed nat/*.nft
var ruleFiles embed.FS

// A Kind is how a site's router treats what passes it: one file of nft rules
// in nat/, named like the kind. Rules may rely on the interfaces wan, lan0,
// lan1, ….
type Kind string

const (
	// Open translates nothing and filters nothing: the site's LANs have public
	// addresses.
	Open Kind = "open"
	// PortRestricted is what most homes and offices have: one public address,
	// endpoint-independent mapping, address- and port-dependent filtering.
	PortRestricted Kind = "port-restricted"
)

const coreRules = "core"

// nft loads a file of rules into the host's namespace.
func (h *Host) nft(name string) error {
	rules, err := ruleFiles.ReadFile("nat/" + name + ".nft")
	if err != nil {
		return fmt.Errorf("rules %s: %w", name, err)
	}
	res, err := h.run(h.lab.ctx, strings.NewReader(string(rules)), nil, "nft", "-f", "-")
	if err != nil {
		return err
	}
	if res.Code != 0 {
		return fmt.Errorf("nft rules %s on %s: %s", name, h.name, res.Stderr)
	}
	return nil
}
