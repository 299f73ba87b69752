package key

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// ErrLooseMode marks a key file that others than its owner may read.
var ErrLooseMode = errors.New("key: file is readable by others")

const (
	fileHeader = "culvert key 1"
	maxFile    = 1 << 10
)

// Save writes the pair to a new file of mode 0600, complete or not at all.
func (p *Pair) Save(path string) error {
	text := fmt.Sprintf("%s\nsigning %x\nsealing %x\n", fileHeader, p.Signing.private.Seed(), p.Sealing.private.Bytes())
	f, err := os.CreateTemp(filepath.Dir(path), ".key-*") // CreateTemp makes 0600
	if err != nil {
		return fmt.Errorf("key: save: %w", err)
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("key: save: %w", err)
	}
	return nil
}

// Load reads a key file; one that group or others may read is refused with ErrLooseMode.
func Load(path string) (*Pair, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("key: load: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("key: load: %w", err)
	}
	// Windows has no such mode bits; the directory's access list guards the file there.
	if m := st.Mode().Perm(); m&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%w: %s has mode %04o; run: chmod 600 %s", ErrLooseMode, path, m, path)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("key: load: %w", err)
	}
	p, err := parseFile(string(b))
	if err != nil {
		return nil, fmt.Errorf("key: load %s: %w", path, err)
	}
	return p, nil
}

func parseFile(s string) (*Pair, error) {
	lines := strings.Split(s, "\n")
	if len(lines) != 4 || lines[0] != fileHeader || lines[3] != "" {
		return nil, fmt.Errorf("%w: not a culvert key file", ErrInvalid)
	}
	signing, err := hexLine(lines[1], "signing ")
	if err != nil {
		return nil, err
	}
	sealing, err := hexLine(lines[2], "sealing ")
	if err != nil {
		return nil, err
	}
	return newPair(signing, sealing)
}

func hexLine(line, prefix string) ([]byte, error) {
	h, ok := strings.CutPrefix(line, prefix)
	if !ok {
		return nil, fmt.Errorf("%w: no %s line", ErrInvalid, strings.TrimSpace(prefix))
	}
	b, err := hex.DecodeString(h)
	if err != nil || len(b) != Size {
		return nil, fmt.Errorf("%w: bad %s line", ErrInvalid, strings.TrimSpace(prefix))
	}
	return b, nil
}
