package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"

	"culvert/node/client/api"
)

// Event is something that happened at the agent.
type Event = api.Event

// EventType says what happened.
type EventType = api.EventType

// Kinds of event.
const (
	DeviceFound = api.DeviceFound
	DeviceLost  = api.DeviceLost
	DeviceMoved = api.DeviceMoved
	TunnelUp    = api.TunnelUp
	TunnelDown  = api.TunnelDown
	Dropped     = api.Dropped // this program was too slow, Event.Dropped events are lost
)

// maxEvent bounds a line of the event stream.
const maxEvent = 1 << 20

// ErrStreamEnded says that the agent ended the event stream, as it does when it stops.
var ErrStreamEnded = errors.New("the agent ended the event stream")

// Events listens from now on: what happens after Events has returned is in the sequence. The sequence may be gone through
// once; it ends without an error when ctx is done or the loop is left, and else with one. Cancel ctx if you never go through it.
func (c *Client) Events(ctx context.Context) (iter.Seq2[Event, error], error) {
	r, err := c.api.StreamEvents(ctx)
	if err != nil || r.StatusCode != http.StatusOK {
		_, err = read(r, err)
		return nil, err
	}
	return func(yield func(Event, error) bool) {
		defer r.Body.Close()
		err := parseEvents(r.Body, func(ev Event) bool { return yield(ev, nil) })
		if err != nil && ctx.Err() == nil {
			yield(Event{}, err)
		}
	}, nil
}

// parseEvents calls f for every event until f returns false, then it returns nil.
func parseEvents(r io.Reader, f func(Event) bool) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxEvent)
	for lines.Scan() {
		data, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !ok {
			continue // the data repeats what the other lines say
		}
		var ev Event
		if err := json.Unmarshal(data, &ev); err != nil {
			return fmt.Errorf("an event cannot be read: %w", err)
		}
		if !f(ev) {
			return nil
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrStreamEnded, err)
	}
	return ErrStreamEnded
}
