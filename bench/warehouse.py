#!/usr/bin/env python3
"""Measures taking the lake over into PostgreSQL against `psql \\copy` of ready CSV, `sling` from MongoDB, and a bare merge
from a filled staging table, in one run on one server each. See README.md beside this file."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from measuring import DATABASE, Failure, execute, note, table, with_database
from run import sling_binary

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
COLLECTION = "flat"
TABLE = f'"{DATABASE}"."{COLLECTION}"'


def psql(*commands):
    """Runs commands of psql in one session; answers with the run."""
    program = shutil.which("psql")
    if program is None:
        raise Failure("psql is not on the PATH: install PostgreSQL's client")
    arguments = [part for command in commands for part in ("-c", command)]
    return execute([program, "--no-psqlrc", "--quiet", "--tuples-only", "-v", "ON_ERROR_STOP=1", OPTIONS.postgres, *arguments])


def tributary(*arguments):
    """Runs tributary; answers with the run, its last event and those of batches that were applied."""
    run = execute([OPTIONS.tributary, *map(str, arguments), "--output", "json"])
    events = [json.loads(line) for line in run.stdout.splitlines()]
    if events[-1].get("event") != "finished" or any("error" in c for c in events[-1]["collections"]):
        raise Failure(f"tributary: {events[-1]}")
    return run, events[-1], [event for event in events if event["event"] == "applied"]


def follow():
    """Brings the lake up to the collection."""
    tributary("sync", with_database(OPTIONS.uri), OPTIONS.work / "lake", "--once", "--collection", COLLECTION,
              "--index", OPTIONS.work / "index")


def load():
    """The first load: all rows, into a new table with its key."""
    note(f"generating {OPTIONS.rows:,} documents")
    execute([OPTIONS.tributary, "demo-data", with_database(OPTIONS.uri), "--collection", COLLECTION, "--kind", "flat",
             "--count", str(OPTIONS.rows), "--seed", "1", "--drop"])
    follow()
    psql(f'DROP SCHEMA IF EXISTS "{DATABASE}" CASCADE', "DROP SCHEMA IF EXISTS tributary CASCADE",
         "DROP SCHEMA IF EXISTS bare CASCADE", "CREATE SCHEMA bare", "CHECKPOINT")
    note("tributary copy")
    own, _, _ = tributary("copy", OPTIONS.work / "lake", OPTIONS.postgres, "--collection", COLLECTION)
    file = OPTIONS.work / "rows.csv"
    psql(f"\\copy {TABLE} TO '{file}' CSV")
    rows = [["tributary copy, from the lake, with the key", own]]
    note("psql")
    for name, key in (("psql \\copy from CSV, with the key", True), ("psql \\copy from CSV, without a key", False)):
        psql("DROP TABLE IF EXISTS bare.rows", f"CREATE TABLE bare.rows (LIKE {TABLE})", "CHECKPOINT")
        copy = [f"\\copy bare.rows FROM '{file}' CSV"]
        rows.append([name, psql(*copy, *(["ALTER TABLE bare.rows ADD PRIMARY KEY (_id)"] if key else []))])
    psql("DROP TABLE bare.rows", "CHECKPOINT")
    note("sling")
    environment = {"BENCH_SOURCE": OPTIONS.uri, "BENCH_TARGET": OPTIONS.postgres + "?sslmode=disable",
                   "SLING_HOME_DIR": str(OPTIONS.work / "sling"), "SLING_DISABLE_TELEMETRY": "true"}
    rows.append(["sling, from MongoDB", execute(
        [sling_binary(), "run", "--src-conn", "BENCH_SOURCE", "--src-stream", f"{DATABASE}.{COLLECTION}", "--src-options",
         '{"flatten": true}', "--tgt-conn", "BENCH_TARGET", "--tgt-object", "bare.sling"], environment)])
    counted = int(psql("SELECT count(*) FROM bare.sling").stdout)
    if counted != OPTIONS.rows:
        raise Failure(f"sling wrote {counted} rows of {OPTIONS.rows}")
    shown = [[name, f"{run.seconds:.2f}", f"{OPTIONS.rows / run.seconds:,.0f}", f"{run.peak_bytes / 1e6:,.0f}",
              f"{run.seconds / own.seconds:.2f}"] for name, run in rows]
    table(["contender", "seconds", "rows/s", "peak MB", "tributary, × as fast"], shown)


def merge():
    """Random updates, and the same merge from a staging table that is filled."""
    note(f"updating {OPTIONS.updates:,} documents")
    execute([sys.executable, HERE / "changing.py", OPTIONS.uri, DATABASE, "update", COLLECTION, str(OPTIONS.updates)])
    follow()
    # The bare merge goes first, on a copy of the table as it was.
    columns = psql(f"SELECT string_agg(quote_ident(attname), ',') FROM pg_attribute WHERE attrelid = '{TABLE}'::regclass"
                   " AND attnum > 0 AND NOT attisdropped").stdout.strip()
    names = columns.split(",")
    changed = ", ".join(f"{name} = stage.{name}" for name in names if name != "_id")
    psql("DROP TABLE IF EXISTS bare.rows, bare.stage", f"CREATE TABLE bare.rows (LIKE {TABLE})",
         f"INSERT INTO bare.rows SELECT * FROM {TABLE}", "ALTER TABLE bare.rows ADD PRIMARY KEY (_id)",
         f"CREATE TABLE bare.stage AS SELECT * FROM bare.rows ORDER BY random() LIMIT {OPTIONS.updates}",
         "ANALYZE bare.rows", "ANALYZE bare.stage", "CHECKPOINT")
    sorts = []
    for _ in range(3):
        timed = psql("\\timing on", f"MERGE INTO bare.rows USING bare.stage ON rows._id = stage._id "
                     f"WHEN MATCHED THEN UPDATE SET {changed} WHEN NOT MATCHED THEN INSERT ({columns}) "
                     f"VALUES ({', '.join('stage.' + name for name in names)})")
        sorts.append(float(timed.stdout.split("Time:")[1].split("ms")[0]) / 1000)
    psql("DROP TABLE bare.rows, bare.stage", "CHECKPOINT")
    run, _, applied = tributary("sync", OPTIONS.work / "lake", OPTIONS.postgres, "--once", "--collection", COLLECTION)
    own = sum(event["committedAt"] - event["begunAt"] for event in applied) / 1000
    changes = sum(event["changes"] for event in applied)
    if changes != OPTIONS.updates:
        raise Failure(f"tributary applied {changes} changes of {OPTIONS.updates}")
    bare = sorted(sorts)[1]
    table(["10,000 updates" if OPTIONS.updates == 10_000 else f"{OPTIONS.updates:,} updates", "seconds", "× the bare merge"],
          [["bare MERGE from a filled table (of three)", f"{bare:.2f}", "1.00"],
           ["tributary sync: read, stage, merge, commit", f"{own:.2f}", f"{own / bare:.2f}"],
           ["tributary sync --once: the whole process", f"{run.seconds:.2f}", f"{run.seconds / bare:.2f}"]])


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures taking a lake over into PostgreSQL.")
    parser.add_argument("--uri", default=os.environ.get("MONGODB_URI"), help="MongoDB server (MONGODB_URI)")
    parser.add_argument("--postgres", default=os.environ.get("POSTGRES_URI"), help="PostgreSQL database (POSTGRES_URI)")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--tributary", type=Path, default=ROOT / "target/release/tributary")
    parser.add_argument("--work", type=Path, default=None, help="directory for what is written (a temporary one)")
    options = parser.parse_args()
    if not options.uri or not options.postgres:
        parser.error("name the servers with --uri and --postgres, or MONGODB_URI and POSTGRES_URI")
    return options


if __name__ == "__main__":
    OPTIONS = arguments()
    with tempfile.TemporaryDirectory(prefix="tributary-bench-", dir=OPTIONS.work) as work:
        OPTIONS.work = Path(work)
        try:
            load()
            print()
            merge()
        except Failure as failure:
            sys.exit(f"error: {failure}")
