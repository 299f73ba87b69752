INSERT INTO sequence (tbl, owner, last) VALUES (?1, ?2, max(1, ?3))
ON CONFLICT (tbl, owner) DO UPDATE SET last = max(last + 1, ?3)
RETURNING last
