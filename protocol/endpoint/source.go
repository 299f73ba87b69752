package endpoint

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// source makes the injected randomness safe for concurrent use and cheap in small pieces.
type source struct {
	mu   sync.Mutex
	r    io.Reader
	buf  [512]byte
	left []byte
}

// Read implements io.Reader: all or an error.
func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(p) {
		if len(s.left) == 0 {
			if _, err := io.ReadFull(s.r, s.buf[:]); err != nil {
				return n, fmt.Errorf("endpoint: read randomness: %w", err)
			}
			s.left = s.buf[:]
		}
		k := copy(p[n:], s.left)
		clear(s.left[:k]) // keys come from here
		s.left = s.left[k:]
		n += k
	}
	return n, nil
}

func (s *source) uint64() (uint64, error) {
	s.mu.Lock()
	if len(s.left) >= 8 {
		v := binary.BigEndian.Uint64(s.left)
		s.left = s.left[8:]
		s.mu.Unlock()
		return v, nil
	}
	s.mu.Unlock()
	var b [8]byte
	_, err := s.Read(b[:])
	return binary.BigEndian.Uint64(b[:]), err
}
