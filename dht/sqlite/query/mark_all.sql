SELECT tbl, owner, epoch, sequence, until, sum FROM mark
