package operator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"culvert/operator/registry"
	"culvert/operator/sqlite"
	"culvert/protocol"
	"culvert/protocol/enrol"
	"culvert/protocol/key"
)

const (
	dbFile          = "operator.db"
	keysDir         = "keys"
	rootKeyFile     = "root.key"
	operatorKeyFile = "operator.key"

	// HTTPSPort is advertised where it may be bound, AltHTTPSPort elsewhere.
	HTTPSPort    = 443
	AltHTTPSPort = 7743
	// MessagePort is where an operator answers messages that was not told otherwise.
	MessagePort = 7700

	settingName         = "name"
	settingHTTPS        = "https"
	settingRootKey      = "root_key"
	settingRootCert     = "root_certificate"
	settingOperatorCert = "operator_certificate"
	settingPeers        = "peers"
	settingPolicy       = "super_node_policy"

	formerKeyFile = "operator-former.key" // signed before; nodes that do not know of its successor yet still ask for it
)

// InitOptions says what Init makes.
type InitOptions struct {
	Name      string // for people; "culvert" if empty
	Advertise string // HOST[:HTTPSPORT] under which agents reach the operator
	Now       func() time.Time
	Rand      io.Reader
	// MayBind reports whether this process can listen on a TCP port; nil tries.
	MayBind func(port int) bool
}

// Summary is what there is to know about an operator in public.
type Summary struct {
	Name     string      `json:"name"`
	ID       protocol.ID `json:"id"`
	Root     string      `json:"root"` // SHA-256 of the root key, hex
	HTTPS    string      `json:"https"`
	Expires  time.Time   `json:"expires"` // of its OperatorNode record
	RootHere bool        `json:"root_key_here"`
	Standing string      `json:"standing"` // leading, standby or restored
	Reason   string      `json:"reason,omitempty"`
	Warnings []string    `json:"warnings,omitempty"`
}

// Init makes root key, operator key and database in dir. It overwrites nothing.
func Init(ctx context.Context, dir string, o InitOptions) (*Summary, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.MayBind == nil {
		o.MayBind = mayBind
	}
	if o.Name == "" {
		o.Name = "culvert"
	}
	if err := protocol.CheckName(o.Name); err != nil {
		return nil, invalid("operator %v", err)
	}
	https, warnings, err := advertised(o.Advertise, o.MayBind)
	if err != nil {
		return nil, err
	}
	if err := makeDirs(dir); err != nil {
		return nil, err
	}
	lock, err := acquire(dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := refuseExisting(dir); err != nil {
		return nil, err
	}
	return create(ctx, dir, o, https, warnings)
}

// create writes the database last and under another name until it is whole: an operator is there entirely or not at all.
func create(ctx context.Context, dir string, o InitOptions, https string, warnings []string) (_ *Summary, err error) {
	var made []string
	defer func() {
		if err != nil {
			for _, f := range made {
				os.Remove(f)
			}
		}
	}()
	pairs := make(map[string]*key.Pair)
	for _, name := range []string{rootKeyFile, operatorKeyFile} {
		p, err := key.Generate(o.Rand)
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, keysDir, name)
		made = append(made, path)
		if err := p.Save(path); err != nil {
			return nil, err
		}
		pairs[name] = p
	}
	tmp := filepath.Join(dir, dbFile+".new")
	made = append(made, tmp, tmp+"-wal", tmp+"-shm")
	for _, f := range made[2:] {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) { // left by a kill
			return nil, fmt.Errorf("make the operator: %w", err)
		}
	}
	db, err := sqlite.Create(ctx, tmp)
	if err != nil {
		return nil, err
	}
	root := pairs[rootKeyFile].Signing
	a := &Authority{
		db: db, keys: pairs[operatorKeyFile], rootSigner: root, rootKey: root.Public(), root: protocol.Hash(root.Public().Hash()),
		id: protocol.NodeID(protocol.OperatorDomain, pairs[operatorKeyFile].Signing.Public()), epoch: 1, https: https, name: o.Name,
		now: o.Now, rand: o.Rand,
	}
	err = db.Update(ctx, func(tx *sqlite.Tx) error {
		pub := a.rootKey
		for name, v := range map[string][]byte{settingName: []byte(o.Name), settingHTTPS: []byte(https), settingRootKey: pub[:], settingPolicy: []byte(PolicyOpen)} {
			if err := tx.SetSetting(name, v); err != nil {
				return err
			}
		}
		if err := a.renewChain(tx, true); err != nil {
			return err
		}
		if err := tx.SetSetting(settingSigned, a.id[:]); err != nil {
			return err
		}
		return tx.Audit(registry.Audit{Time: o.Now(), Actor: "operator init", Action: "operator.init", Subject: a.id.String(), Detail: https})
	})
	if err = errors.Join(err, db.Close()); err != nil { // closing writes the log back into the one file
		return nil, err
	}
	if err := os.Rename(tmp, filepath.Join(dir, dbFile)); err != nil {
		return nil, fmt.Errorf("make the operator: %w", err)
	}
	s := a.summary()
	s.Warnings = warnings
	return &s, nil
}

func makeDirs(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the operator's directory: %w", err)
	}
	if err := os.Mkdir(filepath.Join(dir, keysDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the operator's directory: %w", err)
	}
	return nil
}

func refuseExisting(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, dbFile)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: there is an operator in %s; choose another directory with --data", ErrExists, dir)
	}
	for _, name := range []string{rootKeyFile, operatorKeyFile} {
		path := filepath.Join(dir, keysDir, name)
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: there is a key %s but no %s; restore the database from its backup, or move the keys away to begin anew", ErrExists, path, dbFile)
		}
	}
	return nil
}

// advertised completes HOST[:PORT].
func advertised(s string, may func(int) bool) (string, []string, error) {
	if s == "" {
		return "", nil, invalid("no address: --advertise HOST[:HTTPSPORT] names where agents reach this operator")
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		host, port = s, ""
		if ip, perr := netip.ParseAddr(trimBrackets(s)); perr == nil {
			host = ip.String()
		}
	}
	if err := enrol.CheckHost(host); err != nil {
		return "", nil, invalid("--advertise: %v", err)
	}
	var warnings []string
	if port == "" {
		port = strconv.Itoa(HTTPSPort)
		if !may(HTTPSPort) {
			port = strconv.Itoa(AltHTTPSPort)
			warnings = append(warnings, fmt.Sprintf("port %d may not be bound here, so agents are told to use %d: networks that let out only web traffic will not reach it; run as root, or grant CAP_NET_BIND_SERVICE, and name the port in --advertise to have %d", HTTPSPort, AltHTTPSPort, HTTPSPort))
		}
	}
	addr := net.JoinHostPort(host, port)
	if err := enrol.CheckAddress(addr); err != nil {
		return "", nil, invalid("--advertise: %v", err)
	}
	return addr, warnings, nil
}

func trimBrackets(s string) string {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1]
	}
	return s
}

func mayBind(port int) bool {
	l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
