-- How often a super-node did not finish what it was to take over, and until when it is given nothing more, in milliseconds.
ALTER TABLE supernodes ADD COLUMN stalls INTEGER NOT NULL DEFAULT 0;
ALTER TABLE supernodes ADD COLUMN paused INTEGER NOT NULL DEFAULT 0;
