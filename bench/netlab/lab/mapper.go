//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// mapperPatience is how long miniupnpd may take to listen.
const mapperPatience = time.Minute

// mapperProtocols are the configuration of miniupnpd that makes the difference.
var mapperProtocols = map[Kind][]string{
	UPnP1:  {"enable_upnp=yes", "force_igd_desc_v1=yes", "enable_natpmp=no"},
	UPnP2:  {"enable_upnp=yes", "force_igd_desc_v1=no", "enable_natpmp=no"},
	NATPMP: {"enable_upnp=no", "enable_natpmp=yes"},
	PCP:    {"enable_upnp=no", "enable_natpmp=yes"},
}

// startMapper runs miniupnpd where the kind has one, without any mappings, and
// returns when it listens.
func (s *Site) startMapper() error {
	protocols, ok := mapperProtocols[s.Kind]
	if !ok {
		return nil
	}
	s.boots++
	dir := filepath.Join(s.lab.dir, fmt.Sprintf("%s-miniupnpd-%d", s.Name, s.boots))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	leases, conf := filepath.Join(dir, "leases"), filepath.Join(dir, "conf")
	config := strings.Join(append([]string{
		"ext_ifname=wan", "listening_ip=lan0", "http_port=5000", "secure_mode=yes", "lease_file=" + leases,
		"upnp_table_name=firewall", "upnp_nat_table_name=nat", "upnp_forward_chain=miniupnpd",
		"upnp_nat_chain=prerouting_miniupnpd", "upnp_nat_postrouting_chain=postrouting_miniupnpd", "min_lifetime=20",
	}, append(protocols, fmt.Sprintf("allow 1024-65535 %s 1-65535", s.config.LANs[0].Masked()), "deny 0-65535 0.0.0.0/0 0-65535")...), "\n") + "\n"
	if err := errors.Join(os.WriteFile(leases, nil, 0o644), os.WriteFile(conf, []byte(config), 0o644)); err != nil {
		return err
	}
	// Discovery is by multicast from and to the LAN, not by the default route.
	if res, err := s.Router.Run(s.lab.ctx, nil, "ip", "route", "replace", "224.0.0.0/4", "dev", lanName(0)); err != nil || res.Code != 0 {
		return fmt.Errorf("multicast route on %s: %s, %w", s.Router.name, res.Stderr, err)
	}
	p, err := s.Router.Start(nil, "miniupnpd", "-d", "-f", conf, "-P", filepath.Join(dir, "pid"))
	if err != nil {
		return err
	}
	s.mapper = p
	ctx, cancel := context.WithTimeout(s.lab.ctx, mapperPatience)
	defer cancel()
	return p.awaitText(ctx, "istening")
}

func (s *Site) stopMapper() {
	if s.mapper != nil {
		s.mapper.Kill()
		s.mapper = nil
	}
}

// awaitText waits until the process has written a text.
func (p *Process) awaitText(ctx context.Context, text string) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		tail := p.Tail(1 << 16)
		if strings.Contains(tail, text) {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%s): %s", p, p.Outcome(), tail)
		case <-ctx.Done():
			return fmt.Errorf("%s does not say %q: %w: %s", p, text, ctx.Err(), tail)
		case <-tick.C:
		}
	}
}
