-- Rows are in the tree of their owners itself: one search and one page for each that is read or replaced, in place of two.

CREATE TABLE node_new (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO node_new SELECT owner, raw, sum FROM node ORDER BY owner;
DROP TABLE node;
ALTER TABLE node_new RENAME TO node;

CREATE TABLE node_info_new (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO node_info_new SELECT owner, raw, sum FROM node_info ORDER BY owner;
DROP TABLE node_info;
ALTER TABLE node_info_new RENAME TO node_info;

CREATE TABLE super_node_new (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO super_node_new SELECT owner, raw, sum FROM super_node ORDER BY owner;
DROP TABLE super_node;
ALTER TABLE super_node_new RENAME TO super_node;

CREATE TABLE operator_node_new (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO operator_node_new SELECT owner, raw, sum FROM operator_node ORDER BY owner;
DROP TABLE operator_node;
ALTER TABLE operator_node_new RENAME TO operator_node;

CREATE TABLE end_device_new (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO end_device_new SELECT owner, raw, sum FROM end_device ORDER BY owner;
DROP TABLE end_device;
ALTER TABLE end_device_new RENAME TO end_device;

CREATE TABLE revocation_new (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO revocation_new SELECT owner, raw, sum FROM revocation ORDER BY owner;
DROP TABLE revocation;
ALTER TABLE revocation_new RENAME TO revocation;

CREATE TABLE map_head_new (
    owner BLOB NOT NULL PRIMARY KEY,
    raw   BLOB NOT NULL,
    sum   BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO map_head_new SELECT owner, raw, sum FROM map_head ORDER BY owner;
DROP TABLE map_head;
ALTER TABLE map_head_new RENAME TO map_head;
