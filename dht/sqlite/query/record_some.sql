SELECT owner, raw FROM {table} WHERE owner IN ({owners})
