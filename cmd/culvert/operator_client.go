package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"culvert/operator"
	"culvert/operator/api"

	"github.com/spf13/cobra"
)

const (
	adminTimeout = 90 * time.Second
	adminRetry   = 100 * time.Millisecond
	adminWait    = 10 * time.Second
)

// adminClient asks the admin API: over the socket of the operator that runs, or, where none does, the same handler in this
// process. The directory's lock decides, so there is never a second writer.
type adminClient struct {
	ctx   context.Context
	http  *http.Client
	close func() error
}

// withAdmin runs fn with a client for the data directory.
func withAdmin(cmd *cobra.Command, fn func(*adminClient) error) error {
	dir, err := dataDir(cmd)
	if err != nil {
		return err
	}
	a, err := openAdmin(cmd.Context(), dir)
	if err != nil {
		return err
	}
	return errors.Join(fn(a), a.close())
}

func openAdmin(ctx context.Context, dir string) (*adminClient, error) {
	deadline := time.NewTimer(adminWait)
	defer deadline.Stop()
	for {
		op, err := operator.Open(ctx, dir, operator.Options{})
		if err == nil {
			by := operator.Actor{Name: "command line, uid " + strconv.Itoa(os.Getuid()), Local: true}
			t := api.InProcess(api.Admin(op, api.As(by)))
			return &adminClient{ctx, &http.Client{Transport: t}, op.Close}, nil
		}
		if !errors.Is(err, operator.ErrRunning) {
			return nil, err
		}
		conn, derr := api.DialAdmin(ctx, dir)
		if derr == nil {
			conn.Close()
			t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return api.DialAdmin(ctx, dir) }}
			return &adminClient{ctx, &http.Client{Transport: t, Timeout: adminTimeout}, func() error { t.CloseIdleConnections(); return nil }}, nil
		}
		// Another command has the lock for a moment, or the operator is just starting or stopping.
		select {
		case <-time.After(adminRetry):
		case <-deadline.C:
			return nil, fmt.Errorf("%w, and its admin socket does not answer: %w; is it another user's?", err, derr)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (a *adminClient) get(path string, out any) error { return a.do(http.MethodGet, path, nil, out) }
func (a *adminClient) post(path string, in, out any) error {
	return a.do(http.MethodPost, path, in, out)
}
func (a *adminClient) patch(path string, in, out any) error {
	return a.do(http.MethodPatch, path, in, out)
}
func (a *adminClient) put(path string, in, out any) error { return a.do(http.MethodPut, path, in, out) }
func (a *adminClient) delete(path string) error           { return a.do(http.MethodDelete, path, nil, nil) }

// finish prints the answer of a command that has nothing to tell.
func (a *adminClient) finish(cmd *cobra.Command, err error) error {
	if err != nil || !wantJSON(cmd) {
		return err
	}
	return printJSON(cmd.OutOrStdout(), map[string]bool{"done": true})
}

func (a *adminClient) do(method, path string, in, out any) error {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(a.ctx, method, "http://operator/admin/v1"+path, &body)
	if err != nil {
		return err
	}
	res, err := a.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the operator: %w", err)
	}
	defer res.Body.Close()
	d := json.NewDecoder(res.Body)
	if res.StatusCode != http.StatusOK {
		var v struct {
			Error struct {
				Code    string
				Message string
				Rows    operator.RowErrors
			}
		}
		if err := d.Decode(&v); err != nil || v.Error.Message == "" {
			return fmt.Errorf("the operator answered with status %d", res.StatusCode)
		}
		if len(v.Error.Rows) > 0 {
			return v.Error.Rows
		}
		return refused(v.Error.Code, v.Error.Message)
	}
	if out == nil {
		return nil
	}
	if err := d.Decode(out); err != nil {
		return fmt.Errorf("read the operator's answer: %w", err)
	}
	return nil
}

// refused gives the operator's refusals the exit codes of the command line.
func refused(code, message string) error {
	f := &failure{Message: message, Code: code, exit: exitFailed}
	switch code {
	case "invalid", "bad_request":
		f.exit = exitUsage
	case "unavailable":
		f.exit = exitNoDaemon
	}
	return f
}

// listAll reads every page of a list.
func listAll[T any](a *adminClient, path, domain string) ([]T, error) {
	all := []T{}
	for after := ""; ; {
		var page struct {
			Items []T
			Next  string
		}
		q := url.Values{}
		if domain != "" {
			q.Set("domain", domain)
		}
		if after != "" {
			q.Set("after", after)
		}
		if err := a.get(path+"?"+q.Encode(), &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

func segment(s string) string { return url.PathEscape(s) }
