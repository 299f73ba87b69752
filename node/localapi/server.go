package localapi

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"culvert/node/localapi/ipc"
)

const (
	maxConnections = 256
	headerTime     = 5 * time.Second
	idleTime       = 2 * time.Minute
	answerTime     = 90 * time.Second
	graceTime      = 5 * time.Second
)

// Options is what a server is made of.
type Options struct {
	Backend Backend
	Version string
	Events  *Events      // nil: nothing ever happens
	Log     *slog.Logger // nil: silent
	// Mounts are further handlers by pattern, such as "GET /v1/metrics". They stand behind the same checks of the caller.
	Mounts map[string]http.Handler
	// Grace is how long Close lets requests in flight go on, 5 s if zero.
	Grace time.Duration
}

// Server answers apps. It may serve any number of listeners.
type Server struct {
	options Options
	mux     *http.ServeMux
	context context.Context // of every request
	cancel  context.CancelFunc
	streams context.Context // done when Close begins: event streams end
	hangUp  context.CancelFunc

	mu      sync.Mutex
	closed  bool
	servers map[*http.Server]struct{}
	serving sync.WaitGroup // Serve calls and handlers
	done    chan struct{}  // closed when Close has finished
}

// New makes a server. Call Close when done with it, also if it never served. Like http.ServeMux it panics on a mount whose
// pattern is malformed, which is a mistake of the program and not of any input.
func New(o Options) *Server {
	if o.Events == nil {
		o.Events = NewEvents(DefaultQueue, DefaultListeners)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Grace <= 0 {
		o.Grace = graceTime
	}
	s := &Server{
		options: o,
		servers: map[*http.Server]struct{}{},
		done:    make(chan struct{}),
	}
	s.context, s.cancel = context.WithCancel(context.Background())
	s.streams, s.hangUp = context.WithCancel(s.context)
	s.mux = s.routes()
	return s
}

// Serve answers on a listener of [ipc.Listen] until it fails or Close is called, then nil. It closes the listener.
func (s *Server) Serve(l net.Listener) error {
	return s.serve(l, s.handler(), func(conn net.Conn) Caller {
		caller, err := ipc.CallerOf(conn)
		if err != nil {
			s.options.Log.Debug("local API: a caller is unknown", "error", err)
		}
		return caller
	})
}

func (s *Server) serve(l net.Listener, h http.Handler, callerOf func(net.Conn) Caller) error {
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxBody,
		BaseContext:       func(net.Listener) context.Context { return s.context },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if counted, ok := c.(*countedConn); ok {
				c = counted.Conn
			}
			return WithCaller(ctx, callerOf(c))
		},
		ErrorLog: slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
	}
	if !s.begin(srv) {
		l.Close()
		return nil
	}
	defer s.serving.Done()
	err := srv.Serve(limitConnections(l, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	s.mu.Lock()
	delete(s.servers, srv)
	s.mu.Unlock()
	return errors.Join(err, srv.Close())
}

// begin counts one more Serve call or, with a nil server, one more handler. It fails once Close has begun.
func (s *Server) begin(srv *http.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if srv != nil {
		s.servers[srv] = struct{}{}
	}
	s.serving.Add(1)
	return true
}

// Close ends event streams, lets other requests finish within the grace, then cancels them. It returns when every handler
// and every Serve has returned.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	servers := slices.Collect(maps.Keys(s.servers))
	s.mu.Unlock()

	s.hangUp()
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Grace)
	defer cancel()
	var stopping sync.WaitGroup
	for _, srv := range servers {
		stopping.Go(func() {
			if srv.Shutdown(ctx) != nil {
				srv.Close()
			}
		})
	}
	stopping.Wait()
	s.cancel()
	s.serving.Wait()
	close(s.done)
	return nil
}

// limitConnections makes Accept wait while n connections are open.
func limitConnections(l net.Listener, n int) net.Listener {
	return &limited{Listener: l, room: make(chan struct{}, n), stop: make(chan struct{})}
}

type limited struct {
	net.Listener
	room chan struct{}
	once sync.Once
	stop chan struct{}
}

type countedConn struct {
	net.Conn
	once sync.Once
	free func()
}

func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.room <- struct{}{}:
	case <-l.stop:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.room
		return nil, err
	}
	return &countedConn{Conn: conn, free: func() { <-l.room }}, nil
}

func (l *limited) Close() error {
	l.once.Do(func() { close(l.stop) })
	return l.Listener.Close()
}

func (c *countedConn) Close() error {
	c.once.Do(c.free)
	return c.Conn.Close()
}

// CloseWrite lets net/http end a connection without cutting off the answer to a request that it did not read to its end.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
