package carrier

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"culvert/protocol/carrier/descriptors"
)

const (
	// webHeader is how long a client may take to say what it wants.
	webHeader = 5 * time.Second
	// webMost may do so at a time, and webPerSource from one address or IPv6 /64: a site's proxy is one.
	webMost      = 1024
	webPerSource = 128
)

// Web serves streams to those whom only HTTPS or HTTP reaches: at port 443 TLS by ALPN and WebSockets, at port 80
// WebSockets. To everybody else it is a web server that has nothing.
type Web struct {
	services Services
	budget   *descriptors.Budget
	timeout  time.Duration // of a handshake; zero: as of any TCP
	server   *http.Server
	given    chan net.Conn
	stop     chan struct{}
	once     sync.Once
	wg       sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	ports   []*TCP
	asking  map[net.Conn]netip.Addr // at the HTTP server, by their source
	sources map[netip.Addr]int
}

// NewWeb makes a Web without listeners; Close it. A nil budget always has room.
func NewWeb(s Services, budget *descriptors.Budget) *Web {
	w := &Web{
		services: s, budget: budget, given: make(chan net.Conn), stop: make(chan struct{}),
		asking: make(map[net.Conn]netip.Addr), sources: make(map[netip.Addr]int),
	}
	w.server = &http.Server{
		Handler: s.Handler(), ReadHeaderTimeout: webHeader, ReadTimeout: webHeader, WriteTimeout: webHeader, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(io.Discard, "", 0), // strangers' broken requests are no news
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateHijacked || s == http.StateClosed {
				w.leave(c)
			}
		},
	}
	w.server.SetKeepAlivesEnabled(false)
	w.wg.Go(func() { _ = w.server.Serve(given{w}) })
	return w
}

// ServeTLS serves a listener for HTTPS, which it owns from then on.
func (w *Web) ServeTLS(l *net.TCPListener) error {
	cfg, err := w.services.ServerTLS(true)
	if err != nil {
		_ = l.Close()
		return err
	}
	protocols := map[string]func(*tls.Conn){
		"http/1.1": func(c *tls.Conn) { w.give(c) },
		"":         func(c *tls.Conn) { w.give(c) },
	}
	for name, serve := range w.services {
		protocols[name] = func(c *tls.Conn) { serve(OverTLS(c)) }
	}
	return w.serve(l, TCPConfig{TLS: cfg, Protocols: protocols})
}

// ServeHTTP serves a listener for plain HTTP, which it owns from then on.
func (w *Web) ServeHTTP(l *net.TCPListener) error {
	return w.serve(l, TCPConfig{Raw: map[byte]func(*Peeked){'G': func(c *Peeked) { w.give(c) }}})
}

func (w *Web) serve(l *net.TCPListener, cfg TCPConfig) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		_ = l.Close()
		return net.ErrClosed
	}
	cfg.Descriptors, cfg.Timeout = w.budget, w.timeout
	s, err := ServeTCP(l, cfg)
	if err != nil {
		_ = l.Close()
		return err
	}
	w.ports = append(w.ports, s)
	return nil
}

// give hands a connection to the HTTP server, where there is room.
func (w *Web) give(c net.Conn) {
	if !w.enter(c) {
		_ = breakOff(c)
		return
	}
	select {
	case w.given <- c:
	case <-w.stop:
		w.leave(c)
		_ = c.Close()
	}
}

func (w *Web) enter(c net.Conn) bool {
	from := sourceOf(c.RemoteAddr())
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asking) >= webMost || w.sources[from] >= webPerSource {
		return false
	}
	w.asking[c] = from
	w.sources[from]++
	return true
}

// leave is for one that has ended or become a stream, which others count.
func (w *Web) leave(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from, ok := w.asking[c]
	if !ok {
		return
	}
	delete(w.asking, c)
	if w.sources[from]--; w.sources[from] == 0 {
		delete(w.sources, from)
	}
}

// Close ends the listeners and what has not become a stream. Streams are their handlers' to end.
func (w *Web) Close() error {
	w.once.Do(func() {
		w.mu.Lock()
		w.closed = true
		ports := w.ports
		w.mu.Unlock()
		close(w.stop)
		_ = w.server.Close()
		for _, s := range ports {
			_ = s.Close()
		}
	})
	w.wg.Wait()
	return nil
}

// given is the listener of connections that others have accepted.
type given struct{ w *Web }

// Accept implements net.Listener.
func (g given) Accept() (net.Conn, error) {
	select {
	case c := <-g.w.given:
		return c, nil
	case <-g.w.stop:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (g given) Close() error { return nil }

// Addr implements net.Listener.
func (g given) Addr() net.Addr { return &net.TCPAddr{} }
