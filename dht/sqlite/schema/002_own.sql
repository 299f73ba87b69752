CREATE TABLE mark (
    tbl      INTEGER NOT NULL,
    owner    BLOB    NOT NULL,
    epoch    INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    until    INTEGER NOT NULL, -- unix ms; 0 keeps it for good
    sum      BLOB    NOT NULL,
    PRIMARY KEY (tbl, owner)
) STRICT, WITHOUT ROWID;

CREATE INDEX mark_until ON mark (until) WHERE until > 0;

CREATE TABLE sequence (
    tbl   INTEGER NOT NULL,
    owner BLOB    NOT NULL,
    last  INTEGER NOT NULL,
    PRIMARY KEY (tbl, owner)
) STRICT, WITHOUT ROWID;

CREATE TABLE setting (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
