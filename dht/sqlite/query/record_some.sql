SELECT raw FROM {table} WHERE id IN ({ids})
