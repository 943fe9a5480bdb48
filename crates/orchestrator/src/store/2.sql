-- What is remembered of a trigger, which may not be in the configuration any more.
CREATE TABLE trigger (
    name TEXT PRIMARY KEY,
    -- How often something was asked of it by hand.
    revision INTEGER NOT NULL DEFAULT 0,
    -- The revision at which it was last asked to begin somewhere: what is told by one that has not seen it
    -- moves nothing.
    begun_by INTEGER NOT NULL DEFAULT 0,
    -- JSON
    position TEXT,
    head TEXT,
    -- JSON
    unfinished TEXT NOT NULL DEFAULT '[]',
    passed_to INTEGER,
    -- JSON
    state TEXT NOT NULL DEFAULT '{"state":"running"}',
    -- JSON: where it is to begin.
    begin_at TEXT,
    succeeded INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    last_run_at INTEGER,
    last_error TEXT
) STRICT;

CREATE TABLE dead_letter (
    -- Sorts by time.
    id TEXT PRIMARY KEY,
    trigger TEXT NOT NULL,
    -- Of the event; empty for a moment of a schedule.
    token TEXT NOT NULL,
    -- BSON
    arguments BLOB NOT NULL,
    error TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    at INTEGER NOT NULL,
    -- Whether it is to be tried again.
    is_asked INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX dead_letter_of_trigger ON dead_letter (trigger, id);
-- An event is given up on once, also where it comes again by a replay.
CREATE UNIQUE INDEX dead_letter_of_event ON dead_letter (trigger, token) WHERE token <> '';

CREATE TABLE function_run (
    -- Sorts by time.
    id TEXT PRIMARY KEY,
    app TEXT NOT NULL,
    function TEXT NOT NULL,
    cause TEXT NOT NULL,
    -- The trigger that it ran for.
    trigger TEXT,
    subject TEXT,
    attempt INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    -- Microseconds
    duration INTEGER NOT NULL,
    -- JSON
    error TEXT,
    -- JSON
    console TEXT NOT NULL
) STRICT;

CREATE INDEX function_run_of_function ON function_run (app, function, id);
CREATE INDEX function_run_of_trigger ON function_run (trigger, id) WHERE trigger IS NOT NULL;
CREATE INDEX function_run_that_failed ON function_run (id) WHERE error IS NOT NULL;
CREATE INDEX function_run_by_time ON function_run (started_at);

-- How many runs of a function are kept: counting them at each run would take too long.
CREATE TABLE function_runs (
    app TEXT NOT NULL,
    function TEXT NOT NULL,
    kept INTEGER NOT NULL,
    PRIMARY KEY (app, function)
) STRICT;
