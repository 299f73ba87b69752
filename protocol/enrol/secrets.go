package enrol

import (
	"fmt"
	"slices"
	"time"

	"culvert/protocol"
)

// maxKeys bounds how many domain keys are handed out: the two readable epochs and those whose time has not come.
const maxKeys = 64

// Secrets is what a member of a domain holds and super-nodes do not.
type Secrets struct {
	Domain string      `json:"domain"` // eight hex digits
	Secret Secret      `json:"secret"` // of location IDs and lookup keys; never changes
	Keys   []DomainKey `json:"keys"`
}

// DomainKey is one epoch's key and the time from which on it seals.
type DomainKey struct {
	Epoch uint32 `json:"epoch"`
	Key   Secret `json:"key"`
	From  int64  `json:"from"` // ms since 1970
}

// At gives the secrets in the form that seals and opens: the newest key whose time has come first, all others readable.
func (s *Secrets) At(now time.Time) (*protocol.DomainSecrets, error) {
	d, err := protocol.ParseDomain(s.Domain)
	if err != nil {
		return nil, err
	}
	if len(s.Keys) == 0 || len(s.Keys) > maxKeys {
		return nil, fmt.Errorf("%w: %d domain keys", ErrBadAnswer, len(s.Keys))
	}
	keys := slices.Clone(s.Keys)
	slices.SortFunc(keys, func(a, b DomainKey) int { // usable ones first, then newest first
		if ua, ub := a.From <= now.UnixMilli(), b.From <= now.UnixMilli(); ua != ub {
			if ua {
				return -1
			}
			return 1
		}
		return int(int64(b.Epoch) - int64(a.Epoch))
	})
	out := &protocol.DomainSecrets{Domain: d, Secret: s.Secret}
	for _, k := range keys {
		out.Keys = append(out.Keys, protocol.DomainKey{Epoch: k.Epoch, Key: k.Key})
	}
	return out, nil
}

// NextKey is when the next key that is held begins to seal; zero if all do.
func (s *Secrets) NextKey(now time.Time) time.Time {
	var next time.Time
	for _, k := range s.Keys {
		if t := time.UnixMilli(k.From); t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	return next
}
