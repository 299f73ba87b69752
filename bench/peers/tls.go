package peers

import (
	"context"
	"fmt"
	"net/netip"
)

const suite = "TLS_AES_128_GCM_SHA256"

// tlsFiles writes certificate, key, and both in one file.
func (r *running) tlsFiles() (cert, key, both string, err error) {
	p, err := newPair()
	if err != nil {
		return "", "", "", err
	}
	if cert, err = r.file("cert.pem", p.Cert); err != nil {
		return "", "", "", err
	}
	if key, err = r.file("key.pem", p.Key); err != nil {
		return "", "", "", err
	}
	both, err = r.file("both.pem", p.Cert+p.Key)
	return cert, key, both, err
}

func startStunnel(ctx context.Context, r *running, at paths, device netip.AddrPort) (local netip.AddrPort, err error) {
	ports, err := freePorts(2)
	if err != nil {
		return local, err
	}
	far, local := ports[0], ports[1]
	cert, key, _, err := r.tlsFiles()
	if err != nil {
		return local, err
	}
	for _, e := range []struct {
		name, client string
		accept, to   netip.AddrPort
	}{{"stunnel-far", "no", far, device}, {"stunnel-near", "yes", local, far}} {
		config, err := r.file(e.name+".conf", fmt.Sprintf(`foreground = yes
pid =
syslog = no
debug = err
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[tunnel]
client = %s
accept = %s
connect = %s
cert = %s
key = %s
CAfile = %s
verifyPeer = yes
sslVersionMin = TLSv1.3
ciphersuites = %s
`, e.client, e.accept, e.to, cert, key, cert, suite))
		if err != nil {
			return local, err
		}
		if err := r.program(ctx, e.name, at["stunnel4"], e.accept, config); err != nil {
			return local, err
		}
	}
	return local, nil
}

func startHaproxy(ctx context.Context, r *running, at paths, device netip.AddrPort) (local netip.AddrPort, err error) {
	ports, err := freePorts(2)
	if err != nil {
		return local, err
	}
	far, local := ports[0], ports[1]
	cert, _, both, err := r.tlsFiles()
	if err != nil {
		return local, err
	}
	for _, e := range []struct {
		name, bind, server string
		accept, to         netip.AddrPort
	}{
		{"haproxy-far", fmt.Sprintf(" ssl crt %s ca-file %s verify required", both, cert), "", far, device},
		{"haproxy-near", "", fmt.Sprintf(" ssl crt %s ca-file %s verify required", both, cert), local, far},
	} {
		config, err := r.file(e.name+".conf", fmt.Sprintf(`global
  maxconn 4000
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-server-options ssl-min-ver TLSv1.3
  ssl-default-bind-ciphersuites %[1]s
  ssl-default-server-ciphersuites %[1]s
defaults
  mode tcp
  timeout connect 5s
  timeout client 5m
  timeout server 5m
listen tunnel
  bind %[2]s%[3]s
  server next %[4]s%[5]s
`, suite, e.accept, e.bind, e.to, e.server))
		if err != nil {
			return local, err
		}
		if err := r.program(ctx, e.name, at["haproxy"], e.accept, "-db", "-f", config); err != nil {
			return local, err
		}
	}
	return local, nil
}
