-- Rows are numbered, and the index in memory knows the number of each: pages of a tree of numbers hold hundreds of them, where pages
-- of owners held ten, so that a search looks at half as many; and what came in together is together on the disk.

CREATE TABLE node_new (
    id  INTEGER PRIMARY KEY,
    raw BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
INSERT INTO node_new (raw, sum) SELECT raw, sum FROM node ORDER BY owner;
DROP TABLE node;
ALTER TABLE node_new RENAME TO node;

CREATE TABLE node_info_new (
    id  INTEGER PRIMARY KEY,
    raw BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
INSERT INTO node_info_new (raw, sum) SELECT raw, sum FROM node_info ORDER BY owner;
DROP TABLE node_info;
ALTER TABLE node_info_new RENAME TO node_info;

CREATE TABLE super_node_new (
    id  INTEGER PRIMARY KEY,
    raw BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
INSERT INTO super_node_new (raw, sum) SELECT raw, sum FROM super_node ORDER BY owner;
DROP TABLE super_node;
ALTER TABLE super_node_new RENAME TO super_node;

CREATE TABLE operator_node_new (
    id  INTEGER PRIMARY KEY,
    raw BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
INSERT INTO operator_node_new (raw, sum) SELECT raw, sum FROM operator_node ORDER BY owner;
DROP TABLE operator_node;
ALTER TABLE operator_node_new RENAME TO operator_node;

CREATE TABLE end_device_new (
    id  INTEGER PRIMARY KEY,
    raw BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
INSERT INTO end_device_new (raw, sum) SELECT raw, sum FROM end_device ORDER BY owner;
DROP TABLE end_device;
ALTER TABLE end_device_new RENAME TO end_device;

CREATE TABLE revocation_new (
    id  INTEGER PRIMARY KEY,
    raw BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
INSERT INTO revocation_new (raw, sum) SELECT raw, sum FROM revocation ORDER BY owner;
DROP TABLE revocation;
ALTER TABLE revocation_new RENAME TO revocation;

CREATE TABLE map_head_new (
    id  INTEGER PRIMARY KEY,
    raw BLOB NOT NULL,
    sum BLOB NOT NULL
) STRICT;
INSERT INTO map_head_new (raw, sum) SELECT raw, sum FROM map_head ORDER BY owner;
DROP TABLE map_head;
ALTER TABLE map_head_new RENAME TO map_head;
