//go:build linux

package device

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"culvert/bench/netlab/lab"
)

// JetDirectPort is where printers take raw data.
const JetDirectPort = 9100

// jobQueue is how many jobs may be done before somebody asks for them.
const jobQueue = 64

// A Job is what came over one connection.
type Job struct {
	SHA256 [sha256.Size]byte
	Bytes  int64
	Err    error
}

// answer is what a device does with one connection.
type answer func(net.Conn) Job

// A Server is a device with one open TCP port.
type Server struct {
	ln     net.Listener
	answer answer
	jobs   chan Job
	wg     sync.WaitGroup

	mu    sync.Mutex
	open  map[net.Conn]struct{}
	ended bool
}

// ServeJetDirect listens on the host's port as a printer does: it takes what
// comes until the sender has ended, then closes.
func ServeJetDirect(h *lab.Host, port int) (*Server, error) { return serve(h, port, take) }

// ServeEcho listens on the host's port and sends back what comes.
func ServeEcho(h *lab.Host, port int) (*Server, error) { return serve(h, port, echo) }

func serve(h *lab.Host, port int, a answer) (*Server, error) {
	ln, err := h.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, fmt.Errorf("device port %d on %s: %w", port, h.Name(), err)
	}
	s := &Server{ln: ln, answer: a, jobs: make(chan Job, jobQueue), open: make(map[net.Conn]struct{})}
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

// Jobs yields each job when its connection has ended.
func (s *Server) Jobs() <-chan Job { return s.jobs }

// Close ends the device and its connections and waits for them.
func (s *Server) Close() error {
	err := s.ln.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	s.mu.Lock()
	s.ended = true
	for conn := range s.open {
		conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

func (s *Server) accept() {
	defer s.wg.Done()
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.ended {
			s.mu.Unlock()
			conn.Close()
			return
		}
		s.open[conn] = struct{}{}
		s.wg.Add(1)
		s.mu.Unlock()
		go s.handle(conn)
	}
}

func (s *Server) handle(conn net.Conn) {
	defer s.wg.Done()
	job := s.answer(conn)
	conn.Close()
	s.mu.Lock()
	delete(s.open, conn)
	s.mu.Unlock()
	select {
	case s.jobs <- job:
	default: // nobody asks for jobs
	}
}

func take(conn net.Conn) Job {
	hash := sha256.New()
	n, err := io.Copy(hash, conn)
	return Job{SHA256: [sha256.Size]byte(hash.Sum(nil)), Bytes: n, Err: err}
}

func echo(conn net.Conn) Job {
	hash := sha256.New()
	n, err := io.Copy(conn, io.TeeReader(conn, hash))
	return Job{SHA256: [sha256.Size]byte(hash.Sum(nil)), Bytes: n, Err: err}
}
