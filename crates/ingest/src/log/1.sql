-- Numbers are u64 whose first bit is flipped, so that they sort as signed ones. Times are milliseconds since 1970.

CREATE TABLE log (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id TEXT NOT NULL,
    -- The number of the last event, or a moment before the first.
    last INTEGER NOT NULL,
    -- The number of the last event that was removed, or a moment before the first.
    removed INTEGER NOT NULL,
    -- What the events have together.
    bytes INTEGER NOT NULL
) STRICT;

CREATE TABLE event (
    number INTEGER PRIMARY KEY,
    received INTEGER NOT NULL,
    -- Whether a later one of its document had arrived before.
    late INTEGER NOT NULL,
    identity BLOB NOT NULL UNIQUE,
    checksum INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT;

CREATE TABLE collection (
    id INTEGER PRIMARY KEY,
    database TEXT NOT NULL,
    name TEXT NOT NULL,
    -- The number of the first event that it was heard of in.
    first INTEGER NOT NULL,
    -- Whether it has taken its name from another, with content that is not known here.
    renamed INTEGER NOT NULL DEFAULT 0,
    -- The last change that has arrived of its documents, by its cluster time and token.
    changed_time INTEGER,
    changed_token TEXT,
    -- The last time that it was dropped or renamed away.
    ended_time INTEGER,
    ended_token TEXT,
    UNIQUE (database, name)
) STRICT;

-- The last change that has arrived of each document.
CREATE TABLE newest (
    collection INTEGER NOT NULL REFERENCES collection,
    key BLOB NOT NULL,
    time INTEGER NOT NULL,
    token TEXT,
    number INTEGER NOT NULL,
    PRIMARY KEY (collection, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX newest_by_number ON newest (number);
