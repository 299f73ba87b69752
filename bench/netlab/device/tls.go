//go:build linux

package device

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"

	"culvert/bench/netlab/lab"
)

// SecurePort is where a device with a TLS key takes raw data.
const SecurePort = 9443

// certificateLife covers any run of a test.
const certificateLife = 24 * time.Hour

// A Pin is the SHA-256 of a device's public key, as it is registered.
type Pin [sha256.Size]byte

// String is the pin as the command line takes it.
func (p Pin) String() string { return fmt.Sprintf("%x", p[:]) }

// ServeTLS is ServeJetDirect behind TLS with a key of the device's own.
func ServeTLS(h *lab.Host, port int) (*Server, Pin, error) {
	cert, pin, err := newCertificate(h.Name())
	if err != nil {
		return nil, Pin{}, fmt.Errorf("certificate of %s: %w", h.Name(), err)
	}
	conf := &tls.Config{Certificates: []tls.Certificate{cert}}
	s, err := serve(h, port, func(conn net.Conn) Job {
		secure := tls.Server(conn, conf)
		job := take(secure)
		// It says good-bye; whoever only looked at the key has gone before.
		_ = secure.Close()
		return job
	})
	return s, pin, err
}

func newCertificate(name string) (tls.Certificate, Pin, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, Pin{}, err
	}
	now := time.Now()
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-certificateLife),
		NotAfter:     now.Add(certificateLife),
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, leaf, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, Pin{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return tls.Certificate{}, Pin{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, sha256.Sum256(spki), nil
}

// Secure begins TLS with a device at the other end of conn and checks its key.
func Secure(conn net.Conn, pin Pin) *tls.Conn {
	return tls.Client(conn, &tls.Config{
		InsecureSkipVerify: true, // the key counts, not who signed it
		VerifyConnection: func(s tls.ConnectionState) error {
			if got := Pin(sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)); got != pin {
				return fmt.Errorf("the device's key is %s, not %s", got, pin)
			}
			return nil
		},
	})
}
