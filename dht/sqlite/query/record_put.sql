INSERT OR REPLACE INTO {table} (id, raw, sum) VALUES (?1, ?2, ?3)
