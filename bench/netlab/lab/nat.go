//go:build linux

package lab

import (
	"embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"text/template"
)

//go:embed nat/*.nft
var ruleFiles embed.FS

// A Kind is how a site's router treats what passes it: files of nft rules in
// nat/, the last of which is named like the kind where it has one of its own.
// Rules may rely on the interfaces wan, lan0, lan1, ….
type Kind string

// In RFC 4787's words, mapping is endpoint-independent (EIM) or address- and
// port-dependent (APDM); filtering is endpoint-independent (EIF), address-
// dependent (ADF) or address- and port-dependent (APDF). Every kind but Open
// lets into its IPv6 networks, if it has any, only answers.
const (
	// Open translates nothing and filters nothing: the site's LANs have public
	// addresses.
	Open Kind = "open"
	// FullCone is EIM, EIF.
	FullCone Kind = "full-cone"
	// Restricted is EIM, ADF.
	Restricted Kind = "restricted"
	// PortRestricted is what most homes and offices have: EIM, APDF, one public
	// address, the port kept where it is free. No hairpin.
	PortRestricted Kind = "port-restricted"
	// PortHashed is EIM, APDF without keeping the port.
	PortHashed Kind = "port-hashed"
	// Symmetric is APDM, APDF with ports by chance.
	Symmetric Kind = "symmetric"
	// Sequential is APDM, APDF with one port after the other.
	Sequential Kind = "sequential"
	// Carrier is a provider's NAT, in front of a router that another Site is:
	// see SiteConfig.Behind.
	Carrier Kind = "carrier"
	// UDPBlocked lets out TCP to ports 80 and 443 only.
	UDPBlocked Kind = "udp-blocked"
	// HTTPSOnly lets out TCP to port 443 only.
	HTTPSOnly Kind = "https-only"
	// ProxyOnly lets out TCP of the host SiteConfig.Proxy only.
	ProxyOnly Kind = "proxy-only"
	// IPv6Only has no IPv4 to the internet, and lets in answers only.
	IPv6Only Kind = "ipv6-only"
	// DualStack is PortRestricted for IPv4, with public IPv6 addresses inside.
	DualStack Kind = "dual-stack"
	// UPnP1 is PortRestricted, and maps ports by UPnP IGD version 1 only.
	UPnP1 Kind = "upnp-v1"
	// UPnP2 is the same with IGD version 2.
	UPnP2 Kind = "upnp-v2"
	// NATPMP is PortRestricted, and maps ports by NAT-PMP only.
	NATPMP Kind = "nat-pmp"
	// PCP is PortRestricted, and maps ports by PCP only.
	PCP Kind = "pcp"
)

const coreRules = "core"

// kindRules are the files of each kind, in the order of loading.
var kindRules = map[Kind][]string{
	Open:           {"open"},
	FullCone:       {"firewall", "full-cone"},
	Restricted:     {"firewall", "restricted"},
	PortRestricted: {"firewall", "port-restricted"},
	PortHashed:     {"firewall", "port-hashed"},
	Symmetric:      {"firewall", "symmetric"},
	Sequential:     {"firewall", "sequential"},
	Carrier:        {"firewall", "carrier"},
	UDPBlocked:     {"firewall", "port-restricted", "udp-blocked"},
	HTTPSOnly:      {"firewall", "port-restricted", "https-only"},
	ProxyOnly:      {"firewall", "port-restricted", "proxy-only"},
	IPv6Only:       {"firewall"},
	DualStack:      {"firewall", "port-restricted"},
	UPnP1:          {"firewall", "port-restricted", "miniupnpd"},
	UPnP2:          {"firewall", "port-restricted", "miniupnpd"},
	NATPMP:         {"firewall", "port-restricted", "miniupnpd", "nat-pmp"},
	PCP:            {"firewall", "port-restricted", "miniupnpd", "pcp"},
}

// dynamic are the maps and sets in which a kind's rules keep what they learned.
var dynamic = map[Kind][]string{
	FullCone:   {"map ip translate owner"},
	Restricted: {"map ip translate owner", "set ip translate seen"},
	Carrier:    {"map ip translate owner"},
}

// mappedPorts are what the rules that choose a port choose from.
const (
	firstPort     = 40000
	numberOfPorts = 4096
)

// ruleValues are what rule files may name in braces.
type ruleValues struct {
	WAN   netip.Addr
	Proxy netip.Addr
	Ports []int
}

func newRuleValues(wan, proxy netip.Addr) ruleValues {
	ports := slices.Collect(func(yield func(int) bool) {
		for i := range numberOfPorts {
			if !yield(firstPort + i) {
				return
			}
		}
	})
	return ruleValues{WAN: wan, Proxy: proxy, Ports: ports}
}

// rules renders files of rules, to be loaded in one piece.
func rules(v ruleValues, names ...string) (string, error) {
	var b strings.Builder
	for _, name := range names {
		text, err := ruleFiles.ReadFile("nat/" + name + ".nft")
		if err != nil {
			return "", fmt.Errorf("rules %s: %w", name, err)
		}
		t, err := template.New(name).Option("missingkey=error").Parse(string(text))
		if err != nil {
			return "", fmt.Errorf("rules: %w", err)
		}
		if err := t.Execute(&b, v); err != nil {
			return "", fmt.Errorf("rules: %w", err)
		}
	}
	return b.String(), nil
}

// nft loads rules into the host's namespace.
func (h *Host) nft(rules string) error {
	res, err := h.run(h.lab.ctx, strings.NewReader(rules), nil, "nft", "-f", "-")
	if err != nil {
		return err
	}
	if res.Code != 0 {
		// nft repeats the rule, and a map may be long.
		return fmt.Errorf("nft on %s: %.500s", h.name, res.Stderr)
	}
	return nil
}
