SELECT epoch, sequence, until, sum FROM mark WHERE tbl = ?1 AND owner = ?2
