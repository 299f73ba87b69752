package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"culvert/node"
	"culvert/node/client"
	"culvert/node/config"
	enrolment "culvert/node/enrol"
	"culvert/node/localapi"
	"culvert/protocol"
	"culvert/protocol/carrier"
	"culvert/protocol/enrol"
)

// joinHere enrols while no agent is running: the agent finds the membership when it starts.
func joinHere(cmd *cobra.Command, token, name string) (client.Membership, error) {
	dir, err := dataDir(cmd)
	if err != nil {
		return client.Membership{}, err
	}
	if err := config.MakeDataDir(dir); err != nil {
		return client.Membership{}, err
	}
	settings, err := config.Load(config.Sources{File: filepath.Join(dir, "config.toml"), Getenv: os.Getenv})
	if err != nil {
		return client.Membership{}, err
	}
	proxies, err := carrier.NewProxies(settings.Proxy, os.Getenv, nil)
	if err != nil {
		return client.Membership{}, err
	}
	if v := proxies.Unused(); v != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "culvert: warning: %s names no HTTP proxy, so it is not used: write it as http://USER:PASSWORD@HOST:PORT\n", v)
	}
	domain, domainName, err := node.EnrolBy(cmd.Context(), dir, token, name, enrolment.Config{Now: time.Now, Proxy: proxies.Request})
	if err != nil {
		return client.Membership{}, explainEnrol(err)
	}
	return readJoined(filepath.Join(dir, "memberships", domain.String()), domainName, name)
}

// readJoined is a membership as the local API would show it, from what enrolment left on disk.
func readJoined(dir, domainName, name string) (client.Membership, error) {
	text, err := os.ReadFile(filepath.Join(dir, "membership.json"))
	if err != nil {
		return client.Membership{}, fmt.Errorf("read the new membership: %w", err)
	}
	var f struct {
		HTTPS       string `json:"https"`
		Certificate []byte `json:"certificate"`
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return client.Membership{}, fmt.Errorf("read the new membership: %w", err)
	}
	cert, err := protocol.ParseRecord(f.Certificate)
	if err != nil {
		return client.Membership{}, fmt.Errorf("read the new certificate: %w", err)
	}
	var v protocol.NodeValue
	if err := protocol.Unmarshal(cert.Value, &v); err != nil {
		return client.Membership{}, fmt.Errorf("read the new certificate: %w", err)
	}
	m := client.Membership{
		Domain: domainName, DomainID: cert.Owner.Domain().String(), NodeID: cert.Owner.String(), Name: name,
		Groups: v.Groups, State: "active", Expires: cert.Expires.UTC(), Operator: f.HTTPS, SuperNodes: []client.SuperNode{},
		Keeper: true, // until its agent knows of others at the location
	}
	if m.Groups == nil {
		m.Groups = []string{}
	}
	return m, nil
}

// explainEnrol says what to do about what the operator refused, with the code that the local API gives it.
func explainEnrol(err error) error {
	f := &failure{Message: err.Error(), Code: string(localapi.Refused), exit: exitFailed}
	var refused *enrol.Error
	switch {
	case errors.Is(err, enrol.ErrTokenUsed), errors.Is(err, enrol.ErrTokenExpired), errors.Is(err, enrol.ErrTokenUnknown):
		return f.withHint("ask the operator for a new one: culvert operator token create --domain NAME")
	case errors.Is(err, node.ErrMember):
		return f.withHint("leave it first to enrol anew: culvert leave")
	case errors.Is(err, enrol.ErrWrongRoot):
		return f.withHint("the address in the token leads to something else than its operator: ask the operator")
	case errors.As(err, &refused):
		return f
	}
	return err
}
