package operator

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol/key"
)

// A backup is a tar file of mode 0600: backup.json, which names the others with their sizes and hashes, operator.db, and the
// files of DIR/keys. node.db is not in it: the mesh has what is there.

const (
	backupFormat   = 1
	backupManifest = "backup.json"
	maxManifest    = 64 << 10
	maxKeyFile     = 1 << 10
	maxBackupFiles = 16
)

// keyName is what a key file of an operator is called.
var keyName = regexp.MustCompile(`^(root|operator|operator-former|operator-[0-9a-f]{16})\.key$`)

// BackupInfo is what is in a backup.
type BackupInfo struct {
	Format  int          `json:"format"`
	Created time.Time    `json:"created"`
	Name    string       `json:"name"` // of the operator
	Root    string       `json:"root"` // SHA-256 of the root key, hex
	Files   []BackupFile `json:"files"`
}

// BackupFile is one file of a backup.
type BackupFile struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// HasRoot reports whether the root key is in it.
func (b BackupInfo) HasRoot() bool {
	for _, f := range b.Files {
		if f.Name == path.Join(keysDir, rootKeyFile) {
			return true
		}
	}
	return false
}

// Backup writes everything that makes the operator in dir to a new file. The operator may run meanwhile: it is only read.
func Backup(ctx context.Context, dir, file string, now time.Time) (BackupInfo, error) {
	if _, err := os.Stat(filepath.Join(dir, dbFile)); errors.Is(err, fs.ErrNotExist) {
		return BackupInfo{}, fmt.Errorf("%w in %s", ErrNotInitialised, dir)
	}
	return writeBackup(file, now, func(tmp string) error {
		if err := sqlite.Copy(ctx, filepath.Join(dir, dbFile), filepath.Join(tmp, dbFile)); err != nil {
			return err
		}
		// The keys after the database: a key that it does not know yet does no harm, one that is missing would.
		return copyKeys(dir, tmp)
	})
}

func copyKeys(dir, to string) error {
	entries, err := os.ReadDir(filepath.Join(dir, keysDir))
	if err != nil {
		return fmt.Errorf("back up the keys: %w", err)
	}
	for _, e := range entries {
		if !keyName.MatchString(e.Name()) {
			continue
		}
		pair, err := key.Load(filepath.Join(dir, keysDir, e.Name()))
		if err != nil {
			return err
		}
		if err := pair.Save(filepath.Join(to, keysDir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// writeBackup has fill make the files in a temporary directory and packs them. It is there entirely or not at all.
func writeBackup(file string, now time.Time, fill func(tmp string) error) (info BackupInfo, err error) {
	out, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return info, fmt.Errorf("%w: %s; a backup never overwrites", ErrExists, file)
	}
	if err != nil {
		return info, fmt.Errorf("write the backup: %w", err)
	}
	defer func() {
		if err = errors.Join(err, out.Close()); err != nil {
			os.Remove(file)
		}
	}()
	tmp, err := os.MkdirTemp(filepath.Dir(file), ".backup-*")
	if err != nil {
		return info, fmt.Errorf("write the backup: %w", err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Mkdir(filepath.Join(tmp, keysDir), 0o700); err != nil {
		return info, fmt.Errorf("write the backup: %w", err)
	}
	if err := fill(tmp); err != nil {
		return info, err
	}
	if info, err = describe(tmp, now); err != nil {
		return info, err
	}
	if err := pack(out, tmp, info); err != nil {
		return info, fmt.Errorf("write the backup: %w", err)
	}
	return info, out.Sync()
}

// describe makes the manifest of the files in a directory.
func describe(tmp string, now time.Time) (info BackupInfo, err error) {
	info = BackupInfo{Format: backupFormat, Created: now.UTC().Truncate(time.Second)}
	if info.Name, info.Root, err = whose(filepath.Join(tmp, dbFile)); err != nil {
		return info, err
	}
	names := []string{dbFile}
	entries, err := os.ReadDir(filepath.Join(tmp, keysDir))
	for _, e := range entries {
		names = append(names, path.Join(keysDir, e.Name()))
	}
	for _, name := range names {
		h := sha256.New()
		var f *os.File
		if f, err = os.Open(filepath.Join(tmp, filepath.FromSlash(name))); err != nil {
			break
		}
		size, cerr := io.Copy(h, f)
		if err = errors.Join(cerr, f.Close()); err != nil {
			break
		}
		info.Files = append(info.Files, BackupFile{name, size, hex.EncodeToString(h.Sum(nil))})
	}
	if err != nil {
		return info, fmt.Errorf("write the backup: %w", err)
	}
	return info, nil
}

// whose is the name and root of an operator's database.
func whose(db string) (name, root string, err error) {
	d, err := sqlite.Open(context.Background(), db)
	if err != nil {
		return "", "", err
	}
	err = d.View(context.Background(), func(tx *sqlite.Tx) error {
		n, err := tx.Setting(settingName)
		k, kerr := tx.Setting(settingRootKey)
		if err = errors.Join(err, kerr); err != nil {
			return fmt.Errorf("operator database: %w", err)
		}
		h := sha256.Sum256(k)
		name, root = string(n), hex.EncodeToString(h[:])
		return nil
	})
	return name, root, errors.Join(err, d.Close())
}

func pack(out io.Writer, tmp string, info BackupInfo) error {
	text, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	entry := func(name string, size int64, r io.Reader) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: info.Created}); err != nil {
			return err
		}
		_, err := io.Copy(w, r)
		return err
	}
	if err := entry(backupManifest, int64(len(text)), strings.NewReader(string(text))); err != nil {
		return err
	}
	for _, f := range info.Files {
		in, err := os.Open(filepath.Join(tmp, filepath.FromSlash(f.Name)))
		if err != nil {
			return err
		}
		if err := errors.Join(entry(f.Name, f.Size, in), in.Close()); err != nil {
			return err
		}
	}
	return w.Close()
}

// unpack writes a backup's files below dir, each checked against the manifest, and returns what it made, also on failure.
func unpack(file, dir string) (info BackupInfo, made []string, err error) {
	in, err := os.Open(file)
	if err != nil {
		return info, nil, fmt.Errorf("read the backup: %w", err)
	}
	defer in.Close()
	if st, err := in.Stat(); err == nil && st.Mode().Perm()&0o077 != 0 && runtime.GOOS != "windows" {
		return info, nil, fmt.Errorf("%w: %s has mode %04o and holds keys; run: chmod 600 %s", key.ErrLooseMode, file, st.Mode().Perm(), file)
	}
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s is no whole backup: %s", ErrInvalid, file, fmt.Sprintf(format, args...))
	}
	r := tar.NewReader(in)
	h, err := r.Next()
	if err != nil || h.Name != backupManifest || h.Size > maxManifest {
		return info, nil, damaged("it does not begin with %s", backupManifest)
	}
	d := json.NewDecoder(r)
	if err := d.Decode(&info); err != nil || info.Format != backupFormat || len(info.Files) > maxBackupFiles {
		return info, nil, damaged("%s: format %d: %v", backupManifest, info.Format, err)
	}
	seen := make(map[string]bool)
	for _, f := range info.Files {
		base, isKey := strings.CutPrefix(f.Name, keysDir+"/")
		if f.Name != dbFile && (!isKey || !keyName.MatchString(base) || f.Size > maxKeyFile) || seen[f.Name] {
			return info, made, damaged("it names %.80q", f.Name)
		}
		seen[f.Name] = true
		if h, err := r.Next(); err != nil || h.Name != f.Name || h.Size != f.Size {
			return info, made, damaged("%s is missing", f.Name)
		}
		to := filepath.Join(dir, filepath.FromSlash(f.Name))
		if f.Name == dbFile {
			to += ".new"
		}
		made = append(made, to)
		sum, err := writeNew(to, r)
		if err != nil {
			return info, made, fmt.Errorf("restore %s: %w", f.Name, err)
		}
		if sum != f.SHA256 {
			return info, made, damaged("%s has other bytes than it had", f.Name)
		}
	}
	if !seen[dbFile] {
		return info, made, damaged("%s is missing", dbFile)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		return info, made, damaged("there is more in it than it names")
	}
	return info, made, nil
}

// writeNew writes a file of mode 0600 that was not there, and says its SHA-256.
func writeNew(to string, r io.Reader) (string, error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), r)
	if err == nil {
		err = f.Sync()
	}
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, f.Close())
}
