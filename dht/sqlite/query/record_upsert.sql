INSERT INTO {table} (owner, raw, sum) VALUES (?1, ?2, ?3)
ON CONFLICT (owner) DO UPDATE SET raw = ?2, sum = ?3
