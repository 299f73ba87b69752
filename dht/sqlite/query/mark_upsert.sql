INSERT INTO mark (tbl, owner, epoch, sequence, until, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (tbl, owner) DO UPDATE SET epoch = ?3, sequence = ?4, until = ?5, sum = ?6
