package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"culvert/operator"
	"culvert/protocol/carrier"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
)

const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 60 * time.Second
	stopTimeout    = 5 * time.Second
	maxHeader      = 16 << 10
	maxConnections = 10240 // half of them for streams, which stay
)

// Config is what Serve needs.
type Config struct {
	Operator *operator.Operator
	HTTPS    net.Listener     // plain TCP; TLS is laid over it here
	Admin    net.Listener     // from ListenAdmin
	Streams  carrier.Services // that nodes without UDP open on the HTTPS port; may be nil
	Log      *slog.Logger
}

// Serve answers on both listeners until ctx ends, then lets requests in hand finish for a moment. It closes the listeners.
func Serve(ctx context.Context, c Config) error {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	quiet := slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug) // strangers' broken handshakes are no news
	web := &http.Server{
		Handler: Handler(c.Operator, c.Streams), TLSNextProto: nextProtos(c.Streams), ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: requestTimeout,
		IdleTimeout: requestTimeout, MaxHeaderBytes: maxHeader, ErrorLog: quiet,
	}
	local := &http.Server{
		Handler: Admin(c.Operator, LocalActor), ConnContext: withPeer, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout,
		WriteTimeout: requestTimeout, IdleTimeout: requestTimeout, MaxHeaderBytes: maxHeader, ErrorLog: quiet,
	}
	g, ctx := errgroup.WithContext(ctx)
	serve := func(s *http.Server, l net.Listener) {
		g.Go(func() error {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve %s: %w", l.Addr(), err)
			}
			return nil
		})
		g.Go(func() error {
			<-ctx.Done()
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
			defer cancel()
			if s.Shutdown(stop) != nil {
				return s.Close()
			}
			return nil
		})
	}
	secure := c.Operator.TLSConfig()
	for name := range c.Streams {
		secure.NextProtos = append(secure.NextProtos, name)
	}
	serve(web, tls.NewListener(netutil.LimitListener(c.HTTPS, maxConnections), secure))
	serve(local, c.Admin)
	return g.Wait()
}

// nextProtos hands connections that ask for a service by ALPN on to it. Not nil, which would mean HTTP/2.
func nextProtos(s carrier.Services) map[string]func(*http.Server, *tls.Conn, http.Handler) {
	m := make(map[string]func(*http.Server, *tls.Conn, http.Handler))
	for name, serve := range s {
		m[name] = func(_ *http.Server, c *tls.Conn, _ http.Handler) {
			k := &kept{ByteConn: carrier.OverTLS(c), closed: make(chan struct{})}
			serve(k)
			<-k.closed // net/http closes the connection when this returns; a service may need it for longer
		}
	}
	return m
}

// kept is a connection that tells when its service has closed it.
type kept struct {
	carrier.ByteConn
	once   sync.Once
	closed chan struct{}
}

// Close implements carrier.ByteConn.
func (k *kept) Close() error {
	err := k.ByteConn.Close()
	k.once.Do(func() { close(k.closed) })
	return err
}

// Handler is everything that the HTTPS port answers, the WebSockets of streams included.
func Handler(op *operator.Operator, streams carrier.Services) http.Handler {
	mux := http.NewServeMux()
	limits := newLimits()
	mux.Handle("/v1/", limits.wrap(public(op)))
	mux.Handle("/admin/v1/", limits.wrap(Admin(op, bearer(op))))
	for name := range streams {
		mux.Handle("/"+name, limits.wrap(streams.Handler()))
	}
	mux.HandleFunc("/", notHere)
	return mux
}

func notHere(w http.ResponseWriter, _ *http.Request) {
	writeError(w, fmt.Errorf("%w: no such path; see /admin/v1/openapi.yaml", operator.ErrNotFound))
}

// InProcess answers requests by calling h: the command line's way while no operator runs.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	pr, pw := io.Pipe()
	w := &pipeWriter{header: make(http.Header), body: pw, ready: make(chan struct{})}
	go func() { // ends when the handler does; the reader's Close makes its writes fail
		defer r.Body.Close()
		t.handler.ServeHTTP(w, r)
		w.WriteHeader(http.StatusOK)
		pw.Close()
	}()
	<-w.ready
	return &http.Response{
		Status: http.StatusText(w.status), StatusCode: w.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.sent, Body: pr, ContentLength: -1, Request: r,
	}, nil
}

type pipeWriter struct {
	header, sent http.Header
	status       int
	body         *io.PipeWriter
	ready        chan struct{}
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
		close(w.ready)
	}
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(b)
}
