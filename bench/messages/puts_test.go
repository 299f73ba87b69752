package messages

import (
	"testing"

	"culvert/protocol"
)

// A Put that its owner's next one has overtaken is answered, and any other refusal ends the run.
func TestOvertakenPut(t *testing.T) {
	devices := &putDevice{n: 20}
	for _, c := range []struct {
		st   protocol.Stored
		fine bool
	}{
		{protocol.Stored{Status: protocol.StatusOK, Sequence: 4}, true},
		{protocol.Stored{Status: protocol.StatusSuperseded, Sequence: 5}, true},
		{protocol.Stored{Status: protocol.StatusSuperseded, Sequence: 4}, false},
		{protocol.Stored{Status: protocol.StatusPolicy, Sequence: 5}, false},
	} {
		b, err := protocol.AppendPayload(nil, c.st)
		if err != nil {
			t.Fatal(err)
		}
		v := &protocol.Verified{Command: protocol.CmdStored, Payload: b}
		if err := devices.check(v, 2*devices.n); (err == nil) != c.fine { // of sequence 4
			t.Errorf("%+v: %v", c.st, err)
		}
	}
}
