//go:build linux

package device

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"culvert/bench/netlab/lab"
)

// SNMPPort is where devices answer questions about themselves, over UDP.
const SNMPPort = 161

const (
	// snmpName is what the agent says that it is.
	snmpName = "culvert netlab device"
	// sysName and system are where it says so (RFC 3418): 1.3.6.1.2.1.1.5.0 and what is about it.
	sysName = ".1.3.6.1.2.1.1.5.0"
	system  = ".1.3.6.1.2.1.1"
)

// An SNMP is a running snmpd.
type SNMP struct{ proc *lab.Process }

// StartSNMP starts an SNMP agent on the host and returns when it answers
// there. dir is an empty folder of its own.
func StartSNMP(ctx context.Context, h *lab.Host, dir string) (*SNMP, error) {
	conf := filepath.Join(dir, "snmpd.conf")
	text := fmt.Sprintf("agentaddress udp:%d\nrocommunity public\nsysname %s\nsyslocation here\nsyscontact nobody\n", SNMPPort, snmpName)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("snmpd: %w", err)
	}
	// Without -C and folders of its own it reads and writes those of the machine.
	proc, err := h.Start([]string{"SNMP_PERSISTENT_DIR=" + dir, "SNMPCONFPATH=" + dir},
		"snmpd", "-f", "-LE", "warning", "-C", "-c", conf, "-I", "system_mib,sysORTable,vacm_conf,usmConf,snmpv3mibs,proxy")
	if err != nil {
		return nil, err
	}
	s := &SNMP{proc}
	err = await(ctx, proc, func() bool {
		_, err := GetSNMP(ctx, h, fmt.Sprintf("127.0.0.1:%d", SNMPPort), time.Second)
		return err == nil
	})
	if err != nil {
		proc.Kill()
		return nil, err
	}
	return s, nil
}

// snmpPatience is how many seconds an answer is waited for on the way.
const snmpPatience = "60"

// GetSNMP asks the agent that is reached at address for its name, once: a
// question or an answer that is lost is an error after a wait. It returns how
// long the command took.
func GetSNMP(ctx context.Context, from *lab.Host, address string, wait time.Duration) (time.Duration, error) {
	began := time.Now()
	out, err := snmp(ctx, from, "snmpget", "-t", fmt.Sprint(wait.Seconds()), "-r", "0", "-Oqv", "udp:"+address, sysName)
	took := time.Since(began)
	if err == nil && strings.Trim(out, "\"\n") != snmpName {
		err = fmt.Errorf("snmpget %s: answered %q", address, out)
	}
	return took, err
}

// WalkSNMP asks for all that the agent says of itself, several variables in
// each answer, and returns how many there were.
func WalkSNMP(ctx context.Context, from *lab.Host, address string) (int, error) {
	out, err := snmp(ctx, from, "snmpbulkwalk", "-t", snmpPatience, "-r", "1", "-Oqn", "udp:"+address, system)
	return strings.Count(out, system), err
}

func snmp(ctx context.Context, from *lab.Host, command string, args ...string) (string, error) {
	// An empty list of MIBs: Debian has none, and numbers are enough.
	res, err := from.Run(ctx, []string{"MIBS=", "SNMPCONFPATH=/nonexistent"}, append([]string{command, "-v2c", "-c", "public"}, args...)...)
	if err != nil {
		return "", err
	}
	if res.Code != 0 {
		return "", fmt.Errorf("%s ended with %d: %s%s", command, res.Code, res.Stdout, bytes.TrimSpace(res.Stderr))
	}
	return string(res.Stdout), nil
}

// Close ends the agent.
func (s *SNMP) Close() error {
	s.proc.Kill()
	return nil
}
