package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"culvert/operator"
	"culvert/protocol/enrol"
)

// public are the routes that nodes use.
func public(op *operator.Operator) http.Handler {
	mux := http.NewServeMux()
	for _, r := range publicRoutes(op) {
		mux.HandleFunc(r.method+" "+r.path, r.handler)
	}
	mux.HandleFunc("/", notHere)
	return mux
}

type route struct {
	method, path string
	handler      http.HandlerFunc
}

func publicRoutes(op *operator.Operator) []route {
	return []route{
		{http.MethodPost, "/v1/enroll", func(w http.ResponseWriter, r *http.Request) {
			var req enrol.EnrollRequest
			if err := decode(w, r, maxBody, false, &req); err != nil {
				refuse(w, err)
				return
			}
			host, _, err := net.SplitHostPort(r.RemoteAddr)
			if err != nil {
				host = "nowhere"
			}
			res, err := op.Enroll(r.Context(), req, host)
			answer(w, res, err)
		}},
		{http.MethodPost, "/v1/renew", func(w http.ResponseWriter, r *http.Request) {
			var req enrol.RenewRequest
			if err := decode(w, r, maxBody, false, &req); err != nil {
				refuse(w, err)
				return
			}
			res, err := op.Renew(r.Context(), req)
			answer(w, res, err)
		}},
		{http.MethodGet, "/v1/bundle", func(w http.ResponseWriter, r *http.Request) {
			var since uint64
			if s := r.URL.Query().Get("since"); s != "" {
				var err error
				if since, err = strconv.ParseUint(s, 10, 63); err != nil {
					refuse(w, fmt.Errorf("%w: since %.20q is not a number", enrol.ErrBadRequest, s))
					return
				}
			}
			res, err := op.Bundle(r.Context(), since)
			answer(w, res, err)
		}},
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	if err != nil {
		refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, v)
}

// refuse tells a node why, and where its clock is wrong also what time it is.
func refuse(w http.ResponseWriter, err error) {
	e, status := enrol.ToWire(err)
	if errors.Is(err, enrol.ErrClock) {
		e.Time = time.Now().UnixMilli()
	}
	writeJSON(w, status, map[string]enrol.Error{"error": e})
}
