package peers

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/user"

	"golang.org/x/crypto/ssh"
)

// separation is where sshd insists on an empty folder when it runs as root; without its service nobody may have made it.
const separation = "/run/sshd"

// sshKey writes a private key and returns its path and the public key's line.
func (r *running) sshKey(name string) (path, public string, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return "", "", err
	}
	p, err := ssh.NewPublicKey(pub)
	if err != nil {
		return "", "", err
	}
	path, err = r.file(name, string(pem.EncodeToMemory(block)))
	return path, string(ssh.MarshalAuthorizedKey(p)), err
}

// startSSH has ssh -L forward to the device through a sshd that runs as this user.
func startSSH(cipher string) func(context.Context, *running, paths, netip.AddrPort) (netip.AddrPort, error) {
	return func(ctx context.Context, r *running, at paths, device netip.AddrPort) (local netip.AddrPort, err error) {
		ports, err := freePorts(2)
		if err != nil {
			return local, err
		}
		far, local := ports[0], ports[1]
		host, hostLine, err := r.sshKey("host")
		if err != nil {
			return local, err
		}
		own, ownLine, err := r.sshKey("own")
		if err != nil {
			return local, err
		}
		authorized, err := r.file("authorized", ownLine)
		if err != nil {
			return local, err
		}
		known, err := r.file("known", fmt.Sprintf("[127.0.0.1]:%d %s", far.Port(), hostLine))
		if err != nil {
			return local, err
		}
		config, err := r.file("sshd.conf", fmt.Sprintf(`Port %d
ListenAddress 127.0.0.1
HostKey %s
AuthorizedKeysFile %s
AuthenticationMethods publickey
PidFile none
StrictModes no
UsePAM no
UseDNS no
PermitRootLogin prohibit-password
AllowTcpForwarding local
PermitOpen %s
LogLevel ERROR
`, far.Port(), host, authorized, device))
		if err != nil {
			return local, err
		}
		if err := r.separate(); err != nil {
			return local, err
		}
		if err := r.program(ctx, "sshd", at["sshd"], far, "-D", "-e", "-f", config); err != nil {
			return local, err
		}
		me, err := user.Current()
		if err != nil {
			return local, fmt.Errorf("ssh: %w", err)
		}
		return local, r.program(ctx, "ssh", at["ssh"], local, "-F", "none", "-N", "-T", "-o", "BatchMode=yes", "-o", "IdentityAgent=none",
			"-o", "IdentitiesOnly=yes", "-o", "IdentityFile="+own, "-o", "UserKnownHostsFile="+known, "-o", "GlobalKnownHostsFile=none",
			"-o", "StrictHostKeyChecking=yes", "-o", "ExitOnForwardFailure=yes", "-o", "Compression=no", "-o", "Ciphers="+cipher,
			"-L", fmt.Sprintf("%s:%s", local, device), "-p", fmt.Sprint(far.Port()), me.Username+"@127.0.0.1")
	}
}

// separate makes the folder that sshd wants, for as long as it runs.
func (r *running) separate() error {
	if os.Getuid() != 0 {
		return nil
	}
	switch err := os.Mkdir(separation, 0o755); {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return fmt.Errorf("sshd: %w", err)
	}
	r.ends = append(r.ends, func() error { return os.Remove(separation) })
	return nil
}
