CREATE TABLE node (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT;

CREATE TABLE node_info (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT;

CREATE TABLE super_node (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT;

CREATE TABLE operator_node (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT;

CREATE TABLE end_device (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT;

CREATE TABLE revocation (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT;

CREATE TABLE map_head (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT;
