package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"culvert/dht"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

// membership is this node in one domain: its own key, certificate and secrets, and nothing of any other domain.
type membership struct {
	dir    string
	domain protocol.Domain
	keys   *key.Pair
	mesh   *mesh
	node   *Node

	tasks   *tasks      // its loops
	client  *dht.Client // look-ups and stores as this membership
	devices *deviceCache

	changed     chan struct{} // something that it announces
	refreshNow  chan struct{}
	askNow      chan struct{} // for revocations
	homesNow    chan struct{}
	homesDue    chan struct{} // homes may be due earlier than they were
	movedNow    chan struct{} // this machine is in another network
	offerNow    chan struct{} // where this node may be reached has changed
	renewNow    chan struct{}
	renewWanted atomic.Bool
	mapWanted   atomic.Uint64 // an epoch that an operator has named

	// homes are the super-nodes that this node keeps in contact with; see homes.go.
	homes homes
	// keeping says whether this node holds bindings at all; see keeper.go.
	keeping keeping
	// told is what the mesh was last told; see announce.go.
	told told

	saving sync.Mutex // one writer of the file at a time; taken before mu
	left   bool       // guarded by saving: the file is to stay gone

	mu          sync.Mutex
	file        membershipFile
	cert        *protocol.CertifiedNode
	revocations revocationMark
}

// membershipFile is memberships/DOMAIN/membership.json, mode 0600: it holds the domain's secrets.
type membershipFile struct {
	Version     int           `json:"version"`
	Root        enrol.Bytes32 `json:"root_hash"`
	HTTPS       string        `json:"https"`
	Name        string        `json:"name"`
	DomainName  string        `json:"domain_name"`
	Certificate []byte        `json:"certificate"`
	Secrets     enrol.Secrets `json:"secrets"`
	Bundle      enrol.Bundle  `json:"bundle"`
}

const (
	membershipVersion = 1
	keyFile           = "node.key"
	membershipJSON    = "membership.json"
	maxMembershipFile = 16 << 20
)

// errDamaged marks a membership that cannot be used any more: it is set aside, and the node must join again.
var errDamaged = errors.New("membership is damaged")

func (m *membership) id() protocol.ID { return protocol.NodeID(m.domain, m.keys.Signing.Public()) }

// certificate is the node's current Node record.
func (m *membership) certificate() *protocol.CertifiedNode {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cert
}

// secrets are the domain's keys as they are to be used now.
func (m *membership) secrets(now time.Time) (*protocol.DomainSecrets, error) {
	m.mu.Lock()
	s := m.file.Secrets
	m.mu.Unlock()
	return s.At(now)
}

func (m *membership) names() (domain, own string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.file.DomainName, m.file.Name
}

// save writes the file whole or not at all.
func (f *membershipFile) save(dir string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, membershipJSON), append(b, '\n'))
}

// writeFile replaces path by a new file of mode 0600, synced, so that a crash leaves the old or the new one.
func writeFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// readMembership reads one directory. A loose key file is an error for the owner of this computer to mend; other damage is
// errDamaged.
func readMembership(dir string) (f membershipFile, keys *key.Pair, err error) {
	keys, err = key.Load(filepath.Join(dir, keyFile))
	if errors.Is(err, key.ErrLooseMode) {
		return f, nil, err
	}
	if err != nil {
		return f, nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	path := filepath.Join(dir, membershipJSON)
	if st, err := os.Stat(path); err == nil && st.Size() > maxMembershipFile {
		return f, nil, fmt.Errorf("%w: %s has %d bytes", errDamaged, membershipJSON, st.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return f, nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err := json.Unmarshal(b, &f); err != nil {
		return f, nil, fmt.Errorf("%w: %s: %w", errDamaged, membershipJSON, err)
	}
	if f.Version != membershipVersion {
		return f, nil, fmt.Errorf("%w: %s: version %d", errDamaged, membershipJSON, f.Version)
	}
	return f, keys, nil
}

// membershipDirs lists the directories under DIR/memberships.
func membershipDirs(dir string) ([]string, error) {
	l, err := os.ReadDir(filepath.Join(dir, "memberships"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dirs []string
	for _, e := range l {
		if _, err := protocol.ParseDomain(e.Name()); err == nil && e.IsDir() {
			dirs = append(dirs, filepath.Join(dir, "memberships", e.Name()))
		}
	}
	return dirs, nil
}

// setAside renames a damaged membership, so that nothing is lost and the node can join anew.
func setAside(dir string, now time.Time) (string, error) {
	to := fmt.Sprintf("%s.damaged-%d", dir, now.Unix())
	return to, os.Rename(dir, to)
}

// checkFile verifies what a file holds against its own root, as of the time at which it was certainly valid: an expired
// certificate is still this node's, and renewal takes it for another 90 days.
func checkFile(f *membershipFile, keys *key.Pair, trust *protocol.Trust, now time.Time) (*protocol.CertifiedNode, error) {
	r, err := protocol.ParseRecord(f.Certificate)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if last := r.Expires.Add(-time.Millisecond); last.Before(now) {
		now = last
	}
	cert, err := trust.RecallNode(f.Certificate, now)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	if cert.Signing != keys.Signing.Public() || cert.Sealing != keys.Sealing.Public() {
		return nil, errors.New("certificate is for other keys")
	}
	s, err := f.Secrets.At(now)
	if err != nil {
		return nil, err
	}
	if s.Domain != cert.ID.Domain() {
		return nil, errors.New("secrets of another domain")
	}
	return cert, nil
}
