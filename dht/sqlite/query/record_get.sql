SELECT raw, sum FROM {table} WHERE owner = ?1
