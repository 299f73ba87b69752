package api

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"culvert/dht/sqlite/faultdisk"
	"culvert/operator"
)

// Whoever asks for a change that there is no room for is told so; reading goes on, and with room again so does changing.
func TestDiskFull(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "op")
	if _, err := operator.Init(t.Context(), dir, operator.InitOptions{Advertise: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	disk := faultdisk.New(t, dir)
	op, err := operator.Open(t.Context(), dir, operator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer op.Close()
	c := &http.Client{Transport: InProcess(Admin(op, As(admin)))}
	add := func(name string) (int, string) {
		res, err := c.Post("http://x/admin/v1/domains", "application/json", strings.NewReader(`{"name":"`+name+`"}`))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(b)
	}
	disk.Full(0)
	if status, text := add("acme"); status != http.StatusInsufficientStorage || !strings.Contains(text, `"no_room"`) || !strings.Contains(text, "is the disk full?") {
		t.Errorf("without room: %d %s", status, text)
	}
	if res, err := c.Get("http://x/admin/v1/domains"); err != nil || res.StatusCode != 200 {
		t.Errorf("read without room: %v", err)
	} else {
		res.Body.Close()
	}
	disk.Room()
	if status, text := add("acme"); status != 200 {
		t.Errorf("with room again: %d %s", status, text)
	}
}
