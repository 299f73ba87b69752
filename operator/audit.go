package operator

import (
	"context"
	"time"

	"culvert/operator/sqlite"
	"culvert/protocol"
)

// AuditView is a line of the audit log as the admin API shows it.
type AuditView struct {
	Number  uint64    `json:"number"`
	Time    time.Time `json:"time"`
	Actor   string    `json:"actor"`
	Action  string    `json:"action"`
	Subject string    `json:"subject"`
	Domain  string    `json:"domain,omitempty"`
	Detail  string    `json:"detail,omitempty"`
}

// AuditLog is up to limit lines numbered higher than after, oldest first; next is where to go on, 0 at the end.
func (a *Authority) AuditLog(ctx context.Context, by Actor, domain string, after uint64, limit int) (out []AuditView, next uint64, err error) {
	out = []AuditView{}
	err = a.db.View(ctx, func(tx *sqlite.Tx) error {
		d, err := a.scope(tx, by, domain)
		if err != nil {
			return err
		}
		names, err := domainNames(tx)
		if err != nil {
			return err
		}
		lines, err := tx.AuditLog(d, after, limit)
		for _, l := range lines {
			out = append(out, AuditView{l.Number, l.Time.UTC(), l.Actor, l.Action, l.Subject, names[l.Domain], l.Detail})
		}
		if len(lines) == limit {
			next = lines[limit-1].Number
		}
		return err
	})
	return out, next, err
}

// Pushed says what a push came to.
type Pushed struct {
	Records int64  `json:"records"` // to be pushed
	Waiting int64  `json:"waiting"` // not confirmed by super-nodes yet
	Note    string `json:"note,omitempty"`
}

// pushWait is how long Push waits for super-nodes.
const pushWait = 10 * time.Second

// Push sends the device records to the super-nodes again and waits a little for their confirmation.
func (a *Authority) Push(ctx context.Context, by Actor, domain string) (Pushed, error) {
	var p Pushed
	var d protocol.Domain
	err := a.update(ctx, func(tx *sqlite.Tx) (err error) {
		if d, err = a.scope(tx, by, domain); err != nil {
			return err
		}
		if p.Records, err = tx.Requeue(protocol.TableEndDevice, d, a.now()); err != nil {
			return err
		}
		return a.audit(tx, by, "device.push", domain, d, "")
	})
	if err != nil {
		return p, err
	}
	a.mu.Lock()
	running := a.locate != nil
	a.mu.Unlock()
	if !running {
		p.Waiting, p.Note = p.Records, "the operator does not run; they are pushed when it does"
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, pushWait)
	defer cancel()
	for {
		passed := a.passes.wait()
		err := a.db.View(ctx, func(tx *sqlite.Tx) (err error) {
			p.Waiting, err = tx.OutboxSize(d)
			return err
		})
		if p.Waiting == 0 || ctx.Err() != nil {
			return p, nil
		}
		if err != nil {
			return p, err
		}
		select {
		case <-passed:
		case <-ctx.Done():
		}
	}
}
