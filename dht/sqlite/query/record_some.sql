SELECT id, raw FROM {table} WHERE id IN ({ids})
