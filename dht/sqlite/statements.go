package sqlite

import (
	"context"
	"database/sql"
	"strings"

	"culvert/protocol"
)

var tableNames = [protocol.TableEnd]string{
	protocol.TableNode:         "node",
	protocol.TableNodeInfo:     "node_info",
	protocol.TableSuperNode:    "super_node",
	protocol.TableOperatorNode: "operator_node",
	protocol.TableEndDevice:    "end_device",
	protocol.TableRevocation:   "revocation",
	protocol.TableMapHead:      "map_head",
}

type statements struct {
	put, remove, get, all [protocol.TableEnd]*sql.Stmt

	markUpsert, markGet, markRead, markAll, markExpire *sql.Stmt
	sequenceNext, settingGet, settingSet               *sql.Stmt

	open []*sql.Stmt
}

func (s *statements) prepare(ctx context.Context, h *handle) error {
	type want struct {
		db    *sql.DB
		dst   **sql.Stmt
		name  string
		table string
	}
	one := func(w want) error {
		text, err := query(w.name)
		if err != nil {
			return err
		}
		*w.dst, err = w.db.PrepareContext(ctx, strings.ReplaceAll(text, "{table}", w.table))
		if err == nil {
			s.open = append(s.open, *w.dst)
		}
		return misfit(err)
	}
	wants := []want{
		{h.write, &s.markUpsert, "mark_upsert", ""}, {h.write, &s.markGet, "mark_get", ""}, {h.read, &s.markRead, "mark_get", ""},
		{h.read, &s.markAll, "mark_all", ""},
		{h.write, &s.markExpire, "mark_expire", ""}, {h.write, &s.sequenceNext, "sequence_next", ""},
		{h.read, &s.settingGet, "setting_get", ""}, {h.write, &s.settingSet, "setting_set", ""},
	}
	for t, name := range tableNames {
		if name != "" {
			wants = append(wants,
				want{h.write, &s.put[t], "record_put", name}, want{h.write, &s.remove[t], "record_delete", name},
				want{h.read, &s.get[t], "record_get", name}, want{h.read, &s.all[t], "record_all", name})
		}
	}
	for _, w := range wants {
		if err := one(w); err != nil {
			return err
		}
	}
	return nil
}

func (s *statements) close() {
	for _, st := range s.open {
		st.Close()
	}
}
