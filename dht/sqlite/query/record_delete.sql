DELETE FROM {table} WHERE owner = ?1
