package operator

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"culvert/operator/sqlite"
)

const (
	rootLife  = 30 * 365 * 24 * time.Hour
	leafLife  = 60 * 24 * time.Hour
	leafRenew = 20 * 24 * time.Hour
	backdate  = time.Hour // clocks of agents differ a little
)

// makeCertificates makes the CA certificates: the root's own, and the operator's by the root, as long as its record lasts.
func (a *Authority) makeCertificates(tx *sqlite.Tx, until time.Time) error {
	now := a.now()
	root := &x509.Certificate{
		Subject: pkix.Name{CommonName: "culvert root " + a.name}, NotBefore: now.Add(-backdate), NotAfter: now.Add(rootLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	rootDER, err := a.certificate(root, root, ed25519Public(a.rootSigner.Signer()), a.rootSigner.Signer())
	if err != nil {
		return err
	}
	if root, err = x509.ParseCertificate(rootDER); err != nil {
		return fmt.Errorf("operator certificate: %w", err)
	}
	caDER, err := a.operatorCA(root, a.keys.Signing.Signer().Public(), a.rootSigner.Signer(), until)
	if err != nil {
		return err
	}
	if err := tx.SetSetting(settingRootCert, rootDER); err != nil {
		return err
	}
	return tx.SetSetting(settingOperatorCert, caDER)
}

// operatorCA is an operator's CA certificate by the root, as long as its record lasts.
func (a *Authority) operatorCA(root *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer, until time.Time) ([]byte, error) {
	ca := &x509.Certificate{
		Subject: pkix.Name{CommonName: "culvert operator " + a.name}, NotBefore: a.now().Add(-backdate), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return a.certificate(ca, root, pub, signer)
}

// CAFile is the root's certificate as PEM, in the operator's directory: what programs other than culvert verify its HTTPS by.
const CAFile = "ca.pem"

func (a *Authority) writeCA(ctx context.Context, dir string) error {
	var der []byte
	err := a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		der, err = tx.Setting(settingRootCert)
		return err
	})
	if err != nil {
		return fmt.Errorf("root certificate: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	path := filepath.Join(dir, CAFile)
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, text) {
		return nil
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return fmt.Errorf("root certificate: %w", err)
	}
	return nil
}

func ed25519Public(s crypto.Signer) ed25519.PublicKey { return s.Public().(ed25519.PublicKey) }

func (a *Authority) certificate(c, parent *x509.Certificate, pub crypto.PublicKey, signer crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("operator certificate: %w", err)
	}
	c.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, c, parent, pub, signer)
	if err != nil {
		return nil, fmt.Errorf("operator certificate: %w", err)
	}
	return der, nil
}

// leafCache is the TLS server's certificate: made in memory, made anew in time.
type leafCache struct {
	mu   sync.Mutex
	cert *tls.Certificate
}

// TLSConfig is for the HTTPS server: a P-256 leaf for the advertised host, since browsers refuse Ed25519 ones.
func (a *Authority) TLSConfig() *tls.Config {
	var cache leafCache
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return cache.get(h.Context(), a)
		},
	}
}

func (l *leafCache) get(ctx context.Context, a *Authority) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cert != nil && l.cert.Leaf.NotAfter.Sub(a.now()) > leafRenew {
		return l.cert, nil
	}
	cert, err := a.newLeaf(ctx)
	if err != nil && l.cert != nil && a.now().Before(l.cert.Leaf.NotAfter) {
		return l.cert, nil
	}
	if err != nil {
		return nil, err
	}
	l.cert = cert
	return cert, nil
}

func (a *Authority) newLeaf(ctx context.Context) (*tls.Certificate, error) {
	var rootDER, caDER []byte
	err := a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
		if rootDER, err = tx.Setting(settingRootCert); err != nil {
			return err
		}
		caDER, err = tx.Setting(settingOperatorCert)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("operator certificate: %w", err)
	}
	ca, err := x509.ParseCertificate(caDER)
	if err != nil {
		return nil, fmt.Errorf("operator certificate: %w", err)
	}
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("operator certificate: %w", err)
	}
	host, _, err := net.SplitHostPort(a.https)
	if err != nil {
		return nil, fmt.Errorf("operator certificate: %w", err)
	}
	now := a.now()
	until := now.Add(leafLife)
	if ca.NotAfter.Before(until) {
		until = ca.NotAfter
	}
	leaf := &x509.Certificate{
		Subject: pkix.Name{CommonName: "culvert operator"}, NotBefore: now.Add(-backdate), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		leaf.IPAddresses = []net.IP{ip}
	} else {
		leaf.DNSNames = []string{host}
	}
	der, err := a.certificate(leaf, ca, k.Public(), a.keys.Signing.Signer())
	if err != nil {
		return nil, err
	}
	if leaf, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("operator certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, caDER, rootDER}, PrivateKey: k, Leaf: leaf}, nil
}
