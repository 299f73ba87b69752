package sqlite

// Setting is the value kept under name, ErrNotFound if none.
func (t *Tx) Setting(name string) ([]byte, error) {
	return one(t, func(s scanner) (v []byte, err error) {
		err = s.Scan(&v)
		return v, err
	}, "SELECT value FROM settings WHERE name = ?", name)
}

// SetSetting keeps value under name.
func (t *Tx) SetSetting(name string, value []byte) error {
	return t.exec("INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, value)
}
