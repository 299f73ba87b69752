package proc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

type place struct{ Word string }

func TestMain(m *testing.M) {
	ran, err := Run(map[string]Part{
		"good": func(ctx context.Context, arg json.RawMessage, ready func(any) error) error {
			var word string
			if err := json.Unmarshal(arg, &word); err != nil {
				return err
			}
			if err := ready(place{word}); err != nil {
				return err
			}
			<-ctx.Done()
			return nil
		},
		"bad":  func(context.Context, json.RawMessage, func(any) error) error { return errors.New("cannot") },
		"mute": func(ctx context.Context, _ json.RawMessage, _ func(any) error) error { <-ctx.Done(); return nil },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if !ran {
		goleak.VerifyTestMain(m)
	}
}

func TestChildSaysWhereItIsAndEnds(t *testing.T) {
	var p place
	c, err := Start(t.Context(), "good", "here", &p)
	if err != nil {
		t.Fatal(err)
	}
	if p.Word != "here" {
		t.Errorf("child said %+v", p)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestChildThatFails(t *testing.T) {
	var p place
	for _, part := range []string{"bad", "unknown"} {
		if _, err := Start(t.Context(), part, nil, &p); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", part, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(ctx, "mute", nil, &p); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// Every process has its own profile, also the second of the same part; those of an earlier run are gone.
func TestProfiles(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "earlier.cpu"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop, err := Profile(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		var p place
		c, err := Start(t.Context(), "good", "here", &p)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	for pattern, want := range map[string]int{"load.cpu": 1, "load.heap": 1, "good*.cpu": 2, "good*.heap": 2, "earlier*": 0} {
		if l, _ := filepath.Glob(filepath.Join(dir, pattern)); len(l) != want {
			t.Errorf("%s: %q", pattern, l)
		}
	}
	if _, err := Profile(filepath.Join(dir, "load.cpu", "x")); err == nil {
		t.Error("a file is a folder")
	}
}
