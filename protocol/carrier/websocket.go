package carrier

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"
)

// Services that a stream may be opened for: its ALPN, and after a slash the path of its WebSocket.
const (
	ServiceMessages = "culvert/messages/1"
	ServiceRelay    = "culvert/relay/1"
)

// background is for calls whose time is bounded by deadlines of the connection beneath.
var background = context.Background()

// Services are what is done with the connections of each service. A handler owns its connection until it returns.
type Services map[string]func(ByteConn)

// Handler serves the WebSockets of all services, each at the path of its name.
func (s Services) Handler() http.Handler {
	mux := http.NewServeMux()
	for name, serve := range s {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) {
			if c, err := upgrade(w, r); err == nil {
				serve(c)
			}
		})
	}
	return mux
}

// hijacked keeps hold of the connection that an upgrade takes over.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (h *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		h.conn = c
		err = c.SetDeadline(time.Time{})
	}
	return c, rw, err
}

// upgrade answers a WebSocket's opening; what is wrong with it, it has answered itself.
func upgrade(w http.ResponseWriter, r *http.Request) (ByteConn, error) {
	h := &hijacked{ResponseWriter: w}
	ws, err := websocket.Accept(h, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil, err
	}
	return newWebSocket(ws, h.conn), nil
}

func newWebSocket(ws *websocket.Conn, beneath net.Conn) ByteConn {
	ws.SetReadLimit(-1) // messages are read in pieces and kept nowhere
	return &webSocket{Conn: beneath, ws: ws}
}

var errTwice = errors.New("websocket: a second connection is not made")

// dialWebSocket opens a WebSocket on a connection that is there; host is what it is called by.
func dialWebSocket(ctx context.Context, conn net.Conn, host, service string) (ByteConn, error) {
	given := false
	t := &http.Transport{
		DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeader,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			if given {
				return nil, errTwice
			}
			given = true
			return conn, nil
		},
	}
	client := &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ws, res, err := websocket.Dial(ctx, "ws://"+host+"/"+service, &websocket.DialOptions{
		HTTPClient: client, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		if res != nil {
			return nil, fmt.Errorf("websocket: answered %s", res.Status)
		}
		return nil, err
	}
	return newWebSocket(ws, conn), nil
}
