package localapi

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// routes builds the table of what this API answers.
func (s *Server) routes() *http.ServeMux {
	b := s.options.Backend
	handlers := map[string]http.Handler{
		"GET /v1/version": answer(func(*http.Request) (any, error) {
			return Version{Version: s.options.Version, API: "v1", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}, nil
		}),
		"GET /v1/status": answer(func(r *http.Request) (any, error) {
			v, err := b.Status(r.Context())
			return v.filled(), err
		}),
		"GET /v1/location": answer(func(r *http.Request) (any, error) {
			v, err := b.Locations(r.Context())
			return list(v), err
		}),
		"GET /v1/devices": answer(func(r *http.Request) (any, error) {
			q, bad := query(r)
			if bad != nil {
				return nil, bad
			}
			v, err := b.Devices(r.Context(), q)
			return each(v, Device.filled), err
		}),
		"GET /v1/netcheck": answer(func(r *http.Request) (any, error) {
			v, err := b.Netcheck(r.Context())
			return v.filled(), err
		}),
		"GET /v1/tunnels": answer(func(r *http.Request) (any, error) {
			v, err := b.Tunnels(r.Context())
			return each(v, Tunnel.filled), err
		}),
		"GET /v1/served": answer(func(r *http.Request) (any, error) {
			v, err := b.Served(r.Context())
			return list(v), err
		}),
		"POST /v1/tunnels": accept(http.StatusCreated, (*OpenRequest).check, func(ctx context.Context, r OpenRequest) (any, error) {
			v, err := b.Open(ctx, r)
			return v.filled(), err
		}),
		"DELETE /v1/tunnels/{id}": answer(func(r *http.Request) (any, error) {
			id := r.PathValue("id")
			if !plainName(id) {
				return nil, Errorf(BadRequest, "", "%.80q is not a tunnel's ID", id)
			}
			return nil, b.CloseTunnel(r.Context(), id)
		}),
		"POST /v1/join": accept(http.StatusCreated, (*JoinRequest).check, func(ctx context.Context, r JoinRequest) (any, error) {
			v, err := b.Join(ctx, r)
			return v.filled(), err
		}),
		"POST /v1/leave": accept(http.StatusNoContent, (*LeaveRequest).check, func(ctx context.Context, r LeaveRequest) (any, error) {
			return nil, b.Leave(ctx, r)
		}),
		"GET /v1/events": http.HandlerFunc(s.stream),
	}
	maps.Copy(handlers, s.options.Mounts)
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for pattern, h := range handlers {
		mux.Handle(pattern, h)
		if method, path, ok := strings.Cut(pattern, " "); ok {
			methods[path] = append(methods[path], method)
		}
	}
	for path, allowed := range methods {
		slices.Sort(allowed)
		mux.Handle(path, wrongMethod(strings.Join(allowed, ", ")))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, Errorf(NotFound, "see openapi.yaml for what there is", "there is no %.80q", r.URL.Path))
	})
	return mux
}

func wrongMethod(allowed string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allowed)
		writeError(w, Errorf(BadRequest, "use "+allowed, "%.80q does not take %.20s", r.URL.Path, r.Method).withStatus(http.StatusMethodNotAllowed))
	})
}

// answer handles a request without a body; nil is answered by 204.
func answer(f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			writeError(w, Errorf(BadRequest, "", "%s %.80s takes no body", r.Method, r.URL.Path))
			return
		}
		v, err := f(r)
		reply(w, http.StatusOK, v, err)
	})
}

// accept handles a request with a JSON body.
func accept[T any](status int, check func(*T) *Error, f func(context.Context, T) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body T
		if bad := decode(w, r, &body); bad != nil {
			writeError(w, bad)
			return
		}
		if bad := check(&body); bad != nil {
			writeError(w, bad)
			return
		}
		// An answer may take longer than a body, and a deadline that passes meanwhile would cancel the request.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		v, err := f(r.Context(), body)
		reply(w, status, v, err)
	})
}

func reply(w http.ResponseWriter, status int, v any, err error) {
	switch {
	case err != nil:
		writeError(w, toError(err))
	case v == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		writeJSON(w, status, v)
	}
}

func writeError(w http.ResponseWriter, e *Error) { writeJSON(w, e.httpStatus(), e) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON","code":"internal"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // the caller has gone if this fails
}

// handler is the table behind what holds for every request.
func (s *Server) handler() http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { forbidden(w) }))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.begin(nil) {
			writeError(w, Errorf(Internal, "start it again", "the agent is stopping").withStatus(http.StatusServiceUnavailable))
			return
		}
		defer s.serving.Done()
		defer s.recovered(w, r)
		rc := http.NewResponseController(w)
		if r.ContentLength != 0 {
			_ = rc.SetReadDeadline(time.Now().Add(bodyTime)) // recorders in tests have no deadlines
		}
		if r.URL.Path != "/v1/events" { // a stream bounds each of its writes by itself
			_ = rc.SetWriteDeadline(time.Now().Add(answerTime + bodyTime))
			ctx, cancel := context.WithTimeout(r.Context(), answerTime)
			defer cancel()
			r = r.WithContext(ctx)
		}
		origin.Handler(s.mux).ServeHTTP(w, r)
	})
}

// recovered answers for a handler that panicked: one bad request must not end the agent, nor go unnoticed.
func (s *Server) recovered(w http.ResponseWriter, r *http.Request) {
	if v := recover(); v != nil {
		s.options.Log.Error("local API: a request failed inside", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
		writeError(w, Errorf(Internal, "look into the agent's log", "the agent failed on this request"))
	}
}
