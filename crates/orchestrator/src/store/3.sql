-- The results of a job are looked for by when they came.
DROP INDEX run_with_result;
CREATE INDEX run_with_result ON run (job, ended_at, id) WHERE state IN ('succeeded', 'failed');
