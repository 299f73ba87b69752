package endpoint

import (
	"time"

	"culvert/protocol"
)

// VerifyCarrying is VerifyDetached for a message that carries its sender's Node record inside its sealed payload, as RelayJoin
// does: record finds it there.
func (e *Endpoint) VerifyCarrying(now time.Time, raw []byte, record func(payload []byte) []byte) (*protocol.Verified, error) {
	env, err := protocol.ParseEnvelope(raw)
	if err != nil {
		e.drops.drop(detachedReason(err))
		return nil, err
	}
	i, err := e.local(env.Receiver)
	if err != nil {
		e.drops.drop(Misaddressed)
		return nil, err
	}
	if !env.CheckMAC1(i.mac1) {
		e.drops.drop(MAC1)
		return nil, protocol.ErrMAC
	}
	payload, err := env.UnverifiedPayload(&i.state.Load().receiver)
	if err != nil {
		e.drops.drop(BadPayload)
		return nil, err
	}
	return e.VerifyDetached(now, raw, record(payload))
}
