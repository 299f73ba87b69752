SELECT owner, raw, sum FROM {table}
