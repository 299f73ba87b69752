package enrol

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// maxChain bounds the certificates that are looked at.
const maxChain = 5

// VerifyServer is for tls.Config.VerifyConnection, beside InsecureSkipVerify: the chain must end in the root key with this
// SHA-256, and the leaf must be for host. Neither the system's CAs nor the order of intermediates count.
func VerifyServer(root protocol.Hash, host string, now func() time.Time) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		certs := cs.PeerCertificates
		if len(certs) < 2 || len(certs) > maxChain {
			return fmt.Errorf("%w: it sent %d certificates", ErrWrongRoot, len(certs))
		}
		roots, inter, found := x509.NewCertPool(), x509.NewCertPool(), false
		for _, c := range certs[1:] {
			if p, ok := c.PublicKey.(ed25519.PublicKey); ok && key.Public(p).Hash() == [32]byte(root) {
				roots.AddCert(c)
				found = true
			} else {
				inter.AddCert(c)
			}
		}
		if !found {
			return ErrWrongRoot
		}
		at := now()
		_, err := certs[0].Verify(x509.VerifyOptions{
			Roots: roots, Intermediates: inter, DNSName: host, CurrentTime: at,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		return explain(err, certs[0], host, at)
	}
}

func explain(err error, leaf *x509.Certificate, host string, at time.Time) error {
	var invalid x509.CertificateInvalidError
	var name x509.HostnameError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w: this machine says %s, the operator's certificate holds from %s to %s; set this machine's clock, or the operator's",
			ErrClock, at.UTC().Format(time.RFC3339), leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	case errors.As(err, &name):
		return fmt.Errorf("%w than %s: the operator was set up with another --advertise", ErrWrongHost, host)
	}
	return fmt.Errorf("%w: %v", ErrWrongRoot, err)
}
