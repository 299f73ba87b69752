package operator

import (
	"context"

	"culvert/operator/sqlite"
	"culvert/protocol"
)

// DomainSecrets are a domain's, in the form that opens what its nodes announce.
func (a *Authority) DomainSecrets(d protocol.Domain) (*protocol.DomainSecrets, error) {
	var out *protocol.DomainSecrets
	err := a.db.View(context.Background(), func(tx *sqlite.Tx) error {
		dom, err := tx.Domain(d)
		if err != nil {
			return err
		}
		s, err := a.secrets(tx, dom)
		if err != nil {
			return err
		}
		out, err = s.At(a.now())
		return err
	})
	return out, err
}
