package link

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"culvert/protocol"
	"culvert/protocol/key"
)

// ALPN names this protocol in the TLS handshake.
const ALPN = "culvert/link/1"

var (
	// ErrPeerKey marks a TLS peer that has another key than the one it was called by, or none that a node may have.
	ErrPeerKey = errors.New("link: peer's TLS key is not the expected node's")
	// ErrServerName marks a handshake that calls no membership of this node.
	ErrServerName = errors.New("link: handshake calls no membership of this node")
)

// Certificate makes the self-signed leaf by which a node shows its key. It never expires: the Node record does.
func Certificate(k *key.Signing) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	signer := k.Signer()
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("link: make leaf: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: signer}, nil
}

// ServerName is how a membership is called in SNI.
func ServerName(id protocol.ID) string {
	h := hex.EncodeToString(id[4:])
	return id.Domain().String() + "." + h[:32] + "." + h[32:]
}

// ParseServerName reads what ServerName wrote.
func ParseServerName(s string) (protocol.ID, error) {
	parts := strings.Split(s, ".")
	if len(s) != 8+1+32+1+32 || len(parts) != 3 || len(parts[1]) != 32 {
		return protocol.ID{}, ErrServerName
	}
	id, err := protocol.ParseID(parts[0] + "-" + parts[1] + parts[2])
	if err != nil {
		return protocol.ID{}, ErrServerName
	}
	return id, nil
}

func baseTLS(cert *tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:                []tls.Certificate{*cert},
		MinVersion:                  tls.VersionTLS13,
		MaxVersion:                  tls.VersionTLS13,
		NextProtos:                  []string{ALPN},
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true,
	}
}

// ClientTLS calls peer, whose certified key must be the one that TLS proves.
func ClientTLS(cert *tls.Certificate, peer *protocol.CertifiedNode) *tls.Config {
	c := baseTLS(cert)
	c.ServerName = ServerName(peer.ID)
	c.InsecureSkipVerify = true // no name or authority counts, only the key: VerifyConnection
	c.VerifyConnection = func(s tls.ConnectionState) error {
		k, err := PeerKey(s)
		if err == nil && k != peer.Signing {
			err = ErrPeerKey
		}
		return err
	}
	return c
}

// ServerTLS takes calls for one membership from any node key; who it is the first frame shows.
func ServerTLS(cert *tls.Certificate) *tls.Config {
	c := baseTLS(cert)
	c.ClientAuth = tls.RequireAnyClientCert
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if s.NegotiatedProtocol != ALPN {
			return ErrServerName
		}
		_, err := PeerKey(s)
		return err
	}
	return c
}

// PeerKey is the Ed25519 key that the peer proved, checked not to be one that verifies everything.
func PeerKey(s tls.ConnectionState) (key.Public, error) {
	if len(s.PeerCertificates) == 0 {
		return key.Public{}, ErrPeerKey
	}
	p, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(p) != key.Size {
		return key.Public{}, ErrPeerKey
	}
	k := key.Public(p)
	if err := key.CheckPublic(k); err != nil {
		return key.Public{}, fmt.Errorf("%w: %w", ErrPeerKey, err)
	}
	return k, nil
}
