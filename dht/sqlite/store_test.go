package sqlite

import (
	"log/slog"
	"path/filepath"
	"testing"

	"culvert/dht/storetest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, path string, o Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func opened(t *testing.T, path string, o Options) storetest.Opened {
	s := open(t, path, o)
	return storetest.Opened{Store: s, Reopen: func() storetest.Opened {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		return opened(t, path, o)
	}}
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opened {
		return opened(t, filepath.Join(t.TempDir(), "node.db"), Options{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	})
}

// With a budget of nearly nothing every read of a record is a read of the disk.
func TestStoreFromDisk(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opened {
		return opened(t, filepath.Join(t.TempDir(), "node #1?.db"), Options{Budget: 1})
	})
}
