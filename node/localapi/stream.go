package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	heartbeat  = 15 * time.Second
	streamTime = 10 * time.Second // for a listener to take one write
)

// stream sends events as they happen, in the form that browsers call server-sent events.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		writeError(w, Errorf(BadRequest, "", "GET /v1/events takes no body"))
		return
	}
	sub, err := s.options.Events.Subscribe()
	if err != nil {
		writeError(w, toError(err))
		return
	}
	defer sub.Close()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.streams, cancel)()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	rc := http.NewResponseController(w)
	write := func(text string) bool {
		_ = rc.SetWriteDeadline(time.Now().Add(streamTime))
		_, err := w.Write([]byte(text))
		return err == nil && rc.Flush() == nil
	}
	for ok := write(": listening\n\n"); ok; {
		ok = write(next(ctx, sub)) && ctx.Err() == nil
	}
}

// next waits for the text to send: an event, or a comment that shows whether the listener is still there.
func next(ctx context.Context, sub *Subscription) string {
	wait, cancel := context.WithTimeout(ctx, heartbeat)
	defer cancel()
	ev, err := sub.Next(wait)
	if errors.Is(err, context.DeadlineExceeded) {
		return ": still here\n\n"
	}
	if err != nil {
		return ": the end\n\n"
	}
	data, err := json.Marshal(ev)
	if err != nil {
		return ": an event could not be written\n\n"
	}
	return fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", ev.Sequence, ev.Type, data)
}
