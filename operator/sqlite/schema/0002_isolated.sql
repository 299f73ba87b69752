-- Since when a super-node is passed by, in milliseconds; 0: it is not.
ALTER TABLE supernodes ADD COLUMN isolated INTEGER NOT NULL DEFAULT 0;
