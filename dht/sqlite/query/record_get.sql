SELECT raw, sum FROM {table} WHERE id = ?1
