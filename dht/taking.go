package dht

import (
	"bytes"
	"errors"
	"time"

	"culvert/partition"
	"culvert/protocol"
)

// take adds a page to g; false condemns the whole answer.
func (l *Lookup) take(now time.Time, g *answer, list protocol.RecordList) bool {
	if g.pages++; g.pages > maxPages+g.more || l.cfg.Target.single() && len(list.Records) > 1 {
		return false
	}
	bad := 0
	for _, raw := range list.Records {
		r, err := protocol.ParseRecord(bytes.Clone(raw))
		if err != nil || !l.cfg.Target.belongs(r) {
			return false
		}
		if l.cfg.Target.Kind == FindMap {
			if len(g.raws) == 0 {
				v, err := l.head(now, r)
				if err != nil {
					return false
				}
				g.more = int(min(v.Count, maxMembers))
			}
			g.raws = append(g.raws, r.Raw())
			continue
		}
		if l.cfg.Target.Kind == FindRevocations {
			g.since = max(g.since, revocationNumber(raw))
		}
		if err := l.cfg.Check(now, r); errors.Is(err, ErrIgnored) {
			continue
		} else if err != nil || r.Expired(now) {
			bad++
			continue
		}
		if l.cfg.Seen != nil {
			if v, ok := l.cfg.Seen(r.Table, r.Owner); ok && VersionOf(r).Less(v) {
				g.older = true
				bad++ // older than what this reader has seen: never again
				continue
			}
		}
		g.records = append(g.records, r)
		g.fresh = g.fresh || l.fresh(now, r)
	}
	if len(g.records) > maxListed || len(g.raws) > maxListed+g.more || bad > 0 && len(g.records) == 0 && list.Next.IsZero() {
		return false
	}
	enough := l.cfg.Target.Most > 0 && len(g.records) >= l.cfg.Target.Most
	if !list.Next.IsZero() && !enough {
		forward := list.Next.Compare(g.after) > 0
		if l.cfg.Target.Kind == FindRevocations {
			forward = len(list.Records) > 0
		}
		g.after = list.Next
		return forward
	}
	g.complete = true
	if l.cfg.Target.Kind == FindMap {
		return l.buildMap(now, g)
	}
	return true
}

func (l *Lookup) fresh(now time.Time, r *protocol.Record) bool {
	return r.Table != protocol.TableNodeInfo || now.Sub(r.Issued) <= l.cfg.Fresh
}

// maxMembers bounds a map, whatever its head says.
const maxMembers = 100_000

// head proves what a map's pages begin with.
func (l *Lookup) head(now time.Time, r *protocol.Record) (v protocol.MapHeadValue, err error) {
	if r.Table != protocol.TableMapHead {
		return v, partition.ErrMap
	}
	if err = l.cfg.Check(now, r); err == nil {
		err = protocol.Unmarshal(r.Value, &v)
	}
	return v, err
}

func (l *Lookup) buildMap(now time.Time, g *answer) bool {
	if len(g.raws) == 0 {
		return false
	}
	head, err := protocol.ParseRecord(g.raws[0])
	if err != nil {
		return false
	}
	var v protocol.MapHeadValue
	if err := protocol.Unmarshal(head.Value, &v); err != nil {
		return false
	}
	if v.Epoch <= l.cfg.Target.Since {
		return len(g.raws) == 1 // nothing newer there
	}
	m, err := partition.Update(l.cfg.Map, g.raws[0], g.raws[1:], func(r *protocol.Record) error { return l.cfg.Check(now, r) })
	g.pmap, g.fresh = m, err == nil
	return err == nil
}
