package carrier

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"
)

// ServerTLS is for a listener of streams: TLS with a leaf made just now, which proves nothing and need not. WebSockets are
// among the protocols where web is set.
func (s Services) ServerTLS(web bool) (*tls.Config, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a TLS leaf: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make a TLS leaf: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		return nil, fmt.Errorf("make a TLS leaf: %w", err)
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12, // a box that looks into HTTPS may be old; what is carried is sealed by itself
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: k}},
	}
	for name := range s {
		c.NextProtos = append(c.NextProtos, name)
	}
	if web {
		c.NextProtos = append(c.NextProtos, "http/1.1")
	}
	return c, nil
}
