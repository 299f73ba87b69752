//go:build linux

package device

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"culvert/bench/netlab/lab"
)

const (
	// RTSPPort is where cameras listen.
	RTSPPort = 554
	// FrameRate is how many pictures a second the camera makes.
	FrameRate = 15

	cameraPath = "/stream"
	// A picture of about 4 KB: half a megabit a second.
	cameraPipeline = "( videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width=320,height=240,framerate=15/1 ! " +
		"jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)

//go:embed camera.py
var cameraProgram string

// A Camera is a running RTSP server.
type Camera struct{ proc *lab.Process }

// StartCamera starts a camera on the host and returns when a player has seen
// its picture there. dir is an empty folder of its own.
func StartCamera(ctx context.Context, h *lab.Host, dir string) (*Camera, error) {
	program := filepath.Join(dir, "camera.py")
	if err := os.WriteFile(program, []byte(cameraProgram), 0o644); err != nil {
		return nil, fmt.Errorf("camera: %w", err)
	}
	// By its whole path: another Python that comes first lacks Debian's modules.
	proc, err := h.Start([]string{"GST_REGISTRY=" + filepath.Join(dir, "registry.bin"), "HOME=" + dir},
		"/usr/bin/python3", program, strconv.Itoa(RTSPPort), cameraPath, cameraPipeline)
	if err != nil {
		return nil, err
	}
	err = await(ctx, proc, func() bool {
		v, err := Play(ctx, h, StreamURI(fmt.Sprintf("127.0.0.1:%d", RTSPPort)), 200*time.Millisecond)
		return err == nil && v.Frames > 0
	})
	if err != nil {
		proc.Kill()
		return nil, err
	}
	return &Camera{proc}, nil
}

// StreamURI is where a camera is found that is reached at address, host and port.
func StreamURI(address string) string { return "rtsp://" + address + cameraPath }

// A Viewing is what a player saw.
type Viewing struct {
	Frames int
	Shown  time.Duration // of the stream's own time
	Took   time.Duration // on the clock
	Errors []string      // what the player complained of, line by line
}

// String is one line for a report.
func (v Viewing) String() string {
	return fmt.Sprintf("%d frames, %s of film in %s, %d complaints", v.Frames, v.Shown.Round(time.Millisecond), v.Took.Round(time.Millisecond), len(v.Errors))
}

// Play plays so much of the stream at uri from a host, over one TCP connection,
// and decodes every frame. A player that gives up is an error.
func Play(ctx context.Context, from *lab.Host, uri string, much time.Duration) (Viewing, error) {
	began := time.Now()
	res, err := from.Run(ctx, nil, "ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-progress", "-", "-nostats",
		"-rtsp_transport", "tcp", "-timeout", "60000000", "-i", uri, "-t", fmt.Sprintf("%.3f", much.Seconds()),
		"-an", "-fps_mode", "passthrough", "-f", "null", "-")
	v := Viewing{Took: time.Since(began)}
	if err != nil {
		return v, err
	}
	for line := range strings.Lines(string(res.Stdout)) { // each value again and again, the last one counts
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "frame":
			v.Frames = int(n)
		case name == "out_time_us":
			v.Shown = time.Duration(n) * time.Microsecond
		}
	}
	for lines := bufio.NewScanner(bytes.NewReader(res.Stderr)); lines.Scan(); {
		v.Errors = append(v.Errors, lines.Text())
	}
	if res.Code != 0 {
		return v, fmt.Errorf("play %s: ffmpeg ended with %d: %s", uri, res.Code, bytes.TrimSpace(res.Stderr))
	}
	return v, nil
}

// Close ends the camera.
func (c *Camera) Close() error {
	c.proc.Kill()
	return nil
}
