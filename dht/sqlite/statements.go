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
	upsert, remove, get, all [protocol.TableEnd]*sql.Stmt

	markUpsert, markGet, markRead, markExpire *sql.Stmt
	sequenceNext, settingGet, settingSet      *sql.Stmt

	open []*sql.Stmt
}

func (s *statements) prepare(ctx context.Context, h *handle) error {
	one := func(db *sql.DB, dst **sql.Stmt, name, table string) error {
		text, err := query(name)
		if err != nil {
			return err
		}
		*dst, err = db.PrepareContext(ctx, strings.ReplaceAll(text, "{table}", table))
		if err == nil {
			s.open = append(s.open, *dst)
		}
		return err
	}
	type want struct {
		db    *sql.DB
		dst   **sql.Stmt
		name  string
		table string
	}
	wants := []want{
		{h.write, &s.markUpsert, "mark_upsert", ""}, {h.write, &s.markGet, "mark_get", ""}, {h.read, &s.markRead, "mark_get", ""},
		{h.write, &s.markExpire, "mark_expire", ""}, {h.write, &s.sequenceNext, "sequence_next", ""},
		{h.read, &s.settingGet, "setting_get", ""}, {h.write, &s.settingSet, "setting_set", ""},
	}
	for t, name := range tableNames {
		if name != "" {
			wants = append(wants,
				want{h.write, &s.upsert[t], "record_upsert", name}, want{h.write, &s.remove[t], "record_delete", name},
				want{h.read, &s.get[t], "record_get", name}, want{h.read, &s.all[t], "record_all", name})
		}
	}
	for _, w := range wants {
		if err := one(w.db, w.dst, w.name, w.table); err != nil {
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
