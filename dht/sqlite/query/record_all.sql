SELECT id, raw, sum FROM {table}
