-- Times are milliseconds since 1970. IDs, hashes and keys are raw bytes. Rows of domains, nodes, devices and revocations
-- are never deleted: numbers, IDs and sequences are never reused.

CREATE TABLE settings (
  name  TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE domains (
  number  INTEGER PRIMARY KEY CHECK (number BETWEEN 1 AND 4294967295),
  name    TEXT NOT NULL,
  folded  TEXT NOT NULL UNIQUE,
  secret  BLOB NOT NULL CHECK (length(secret) = 32),
  created INTEGER NOT NULL,
  banned  INTEGER NOT NULL DEFAULT 0,
  own     INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE domain_keys (
  domain INTEGER NOT NULL REFERENCES domains (number),
  epoch  INTEGER NOT NULL CHECK (epoch > 0),
  key    BLOB NOT NULL CHECK (length(key) = 32),
  since  INTEGER NOT NULL,
  PRIMARY KEY (domain, epoch)
) STRICT, WITHOUT ROWID;

CREATE TABLE tokens (
  hash     BLOB PRIMARY KEY CHECK (length(hash) = 32),
  domain   INTEGER NOT NULL REFERENCES domains (number),
  groups   TEXT NOT NULL,
  uses     INTEGER NOT NULL CHECK (uses > 0),
  uses_left INTEGER NOT NULL CHECK (uses_left BETWEEN 0 AND uses),
  created  INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  actor    TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tokens_expires ON tokens (expires);

CREATE TABLE nodes (
  id       BLOB PRIMARY KEY CHECK (length(id) = 36),
  domain   INTEGER NOT NULL REFERENCES domains (number),
  name     TEXT NOT NULL,
  signing  BLOB NOT NULL CHECK (length(signing) = 32),
  sealing  BLOB NOT NULL CHECK (length(sealing) = 32),
  groups   TEXT NOT NULL,
  token    BLOB NOT NULL,
  enrolled INTEGER NOT NULL,
  issued   INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  revoked  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX nodes_name ON nodes (domain, name);

CREATE TABLE devices (
  id        BLOB PRIMARY KEY CHECK (length(id) = 36),
  domain    INTEGER NOT NULL REFERENCES domains (number),
  folded    TEXT NOT NULL,
  mac       BLOB,
  value     BLOB NOT NULL,
  former    TEXT NOT NULL DEFAULT '',
  key_epoch INTEGER NOT NULL,
  created   INTEGER NOT NULL,
  updated   INTEGER NOT NULL,
  removed   INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX devices_name ON devices (domain, folded) WHERE removed = 0;
CREATE UNIQUE INDEX devices_mac ON devices (domain, mac) WHERE removed = 0 AND mac IS NOT NULL;
CREATE INDEX devices_epoch ON devices (domain, key_epoch) WHERE removed = 0;
CREATE INDEX devices_updated ON devices (domain, updated) WHERE removed = 0;

CREATE TABLE supernodes (
  id        BLOB PRIMARY KEY CHECK (length(id) = 36),
  signing   BLOB NOT NULL CHECK (length(signing) = 32),
  sealing   BLOB NOT NULL CHECK (length(sealing) = 32),
  addresses TEXT NOT NULL,
  capacity  INTEGER NOT NULL,
  state     TEXT NOT NULL CHECK (state IN ('waiting', 'assigned', 'silent', 'barred')),
  approved  INTEGER NOT NULL DEFAULT 0,
  reason    TEXT NOT NULL DEFAULT '',
  submitted INTEGER NOT NULL,
  answered  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest signed record of each table and owner. state: 0 in the outbox, 1 confirmed by super-nodes, 2 withdrawn.
CREATE TABLE records (
  kind     INTEGER NOT NULL,
  owner    BLOB NOT NULL CHECK (length(owner) = 36),
  epoch    INTEGER NOT NULL,
  sequence INTEGER NOT NULL,
  expires  INTEGER NOT NULL,
  raw      BLOB NOT NULL,
  state    INTEGER NOT NULL DEFAULT 0 CHECK (state IN (0, 1, 2)),
  changed  INTEGER NOT NULL UNIQUE,
  PRIMARY KEY (kind, owner)
) STRICT, WITHOUT ROWID;
CREATE INDEX records_outbox ON records (changed) WHERE state = 0;
CREATE INDEX records_expires ON records (kind, expires) WHERE state < 2;

CREATE TABLE revocations (
  number INTEGER PRIMARY KEY CHECK (number > 0),
  kind   INTEGER NOT NULL,
  owner  BLOB NOT NULL CHECK (length(owner) = 36),
  raw    BLOB NOT NULL,
  time   INTEGER NOT NULL
) STRICT;
CREATE INDEX revocations_owner ON revocations (owner, number);

CREATE TABLE apikeys (
  hash    BLOB PRIMARY KEY CHECK (length(hash) = 32),
  domain  INTEGER NOT NULL,
  created INTEGER NOT NULL,
  actor   TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
  number  INTEGER PRIMARY KEY AUTOINCREMENT,
  time    INTEGER NOT NULL,
  actor   TEXT NOT NULL,
  action  TEXT NOT NULL,
  subject TEXT NOT NULL,
  domain  INTEGER NOT NULL,
  detail  TEXT NOT NULL
) STRICT;
CREATE INDEX audit_domain ON audit (domain, number);
