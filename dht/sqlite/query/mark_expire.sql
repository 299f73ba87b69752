DELETE FROM mark WHERE until > 0 AND until <= ?1
