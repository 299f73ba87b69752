package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"culvert/operator"
	"culvert/protocol"
	"culvert/protocol/enrol"
)

const (
	maxBody = 64 << 10
	maxBulk = 16 << 20
	maxPage = 1000
)

// problem is the body of every refusal.
type problem struct {
	Code    string              `json:"code"`
	Message string              `json:"message"`
	Time    int64               `json:"time,omitempty"`
	Rows    []operator.RowError `json:"rows,omitempty"`
}

// decode reads one JSON value: bounded, without unknown fields where strict, and nothing after it.
func decode(w http.ResponseWriter, r *http.Request, limit int64, strict bool, v any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	if strict {
		d.DisallowUnknownFields()
	}
	err := d.Decode(v)
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return fmt.Errorf("%w: the body is longer than %d bytes", enrol.ErrBadRequest, limit)
	case err != nil:
		return fmt.Errorf("%w: JSON: %v", enrol.ErrBadRequest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one JSON value", enrol.ErrBadRequest)
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"error":{"code":"internal","message":"encoding failed"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // a client that has gone is not an error of ours
}

func writeError(w http.ResponseWriter, err error) {
	p, status := toProblem(err)
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="culvert operator"`)
	}
	writeJSON(w, status, map[string]problem{"error": p})
}

// errNoKey marks an admin request without a valid key.
var errNoKey = errors.New("no valid API key: send \"Authorization: Bearer KEY\" with a key from `culvert operator apikey create`")

func toProblem(err error) (problem, int) {
	for _, c := range []struct {
		err    error
		code   string
		status int
	}{
		{errNoKey, "no_key", http.StatusUnauthorized},
		{operator.ErrNotFound, "not_found", http.StatusNotFound},
		{operator.ErrExists, "exists", http.StatusConflict},
		{operator.ErrForbidden, "forbidden", http.StatusForbidden},
		{operator.ErrStandby, "standby", http.StatusServiceUnavailable},
		{operator.ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
		{operator.ErrNoRoom, "no_room", http.StatusInsufficientStorage},
		{operator.ErrInvalid, "invalid", http.StatusBadRequest},
	} {
		if errors.Is(err, c.err) {
			p := problem{Code: c.code, Message: err.Error()}
			var rows operator.RowErrors
			if errors.As(err, &rows) {
				p.Code, p.Rows = "invalid_rows", rows
				p.Message = fmt.Sprintf("%d rows are not valid, nothing was registered", len(rows))
			}
			return p, c.status
		}
	}
	e, status := enrol.ToWire(err)
	return problem{Code: e.Code, Message: e.Message, Time: e.Time}, status
}

// page reads ?limit=, and ?after= as an ID.
func page(r *http.Request) (after protocol.ID, limit int, err error) {
	if s := r.URL.Query().Get("after"); s != "" {
		if after, err = protocol.ParseID(s); err != nil {
			return after, 0, fmt.Errorf("%w: after: %v", enrol.ErrBadRequest, err)
		}
	}
	limit, err = pageLimit(r)
	return after, limit, err
}

func pageLimit(r *http.Request) (int, error) {
	s := r.URL.Query().Get("limit")
	if s == "" {
		return maxPage, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxPage {
		return 0, fmt.Errorf("%w: limit %.20q is not from 1 to %d", enrol.ErrBadRequest, s, maxPage)
	}
	return n, nil
}

func nextText(id protocol.ID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}
