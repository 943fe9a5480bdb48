-- Times are milliseconds since 1970, in UTC.

CREATE TABLE run (
    -- Sorts by the time at which it was asked for.
    id TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    state TEXT NOT NULL,
    -- JSON
    cause TEXT NOT NULL,
    queued_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    documents INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    -- Who asked for it to end.
    cancelled_by TEXT
) STRICT;

CREATE INDEX run_of_job ON run (job, id);
CREATE INDEX run_with_result ON run (job, id) WHERE state IN ('succeeded', 'failed');
CREATE INDEX run_by_state ON run (job, state) WHERE ended_at IS NOT NULL;
CREATE INDEX run_that_goes_on ON run (state, id) WHERE state IN ('queued', 'running');

CREATE TABLE step (
    run TEXT NOT NULL REFERENCES run ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    work TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER,
    ended_at INTEGER,
    documents INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    log TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (run, position)
) STRICT;

-- An object whose creation was told, and the run that is for it: none is taken twice.
CREATE TABLE object (
    job TEXT NOT NULL,
    id TEXT NOT NULL,
    run TEXT NOT NULL,
    -- JSON
    object TEXT NOT NULL,
    taken_at INTEGER NOT NULL,
    PRIMARY KEY (job, id)
) STRICT;

CREATE INDEX object_of_run ON object (run);

-- Up to when the moments of a schedule have been dealt with.
CREATE TABLE schedule (
    job TEXT PRIMARY KEY,
    -- The pattern and its time zone: another one begins anew.
    pattern TEXT NOT NULL,
    passed_to INTEGER NOT NULL
) STRICT;

CREATE TABLE stopped_flow (
    name TEXT PRIMARY KEY
) STRICT;

CREATE TABLE alert (
    id INTEGER PRIMARY KEY,
    rule TEXT NOT NULL,
    subject TEXT NOT NULL,
    summary TEXT NOT NULL,
    detail TEXT,
    since INTEGER NOT NULL,
    told_at INTEGER NOT NULL,
    recovered_at INTEGER
) STRICT;

-- Of each rule and subject one alert fires at a time.
CREATE UNIQUE INDEX alert_that_fires ON alert (rule, subject) WHERE recovered_at IS NULL;

-- What is to be sent, in the order of its ids.
CREATE TABLE message (
    id INTEGER PRIMARY KEY,
    alert INTEGER NOT NULL REFERENCES alert ON DELETE CASCADE,
    receiver TEXT NOT NULL,
    -- JSON
    content TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL,
    error TEXT
) STRICT;
