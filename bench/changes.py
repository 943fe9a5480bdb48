#!/usr/bin/env python3
"""Measures `tributary sync`: a backlog against the raw change stream, and updates of a small and a large table against
deltalake's merge, in one run on one MongoDB server. See README.md beside this file."""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from measuring import DATABASE, Failure, execute, note, table, with_database

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def drain(since, mode):
    """Reads the change stream from a moment on, and throws it away."""
    run = execute([OPTIONS.drain, OPTIONS.uri, DATABASE, *map(str, since), mode])
    return json.loads(run.stdout)


def generate(collection, start, count):
    """Appends nested documents to a collection; from number 0 on it is begun anew."""
    execute([OPTIONS.tributary, "demo-data", with_database(OPTIONS.uri), "--collection", collection, "--kind", "nested",
             "--start", str(start), "--count", str(count), "--seed", "1", *(["--drop"] if start == 0 else [])])


def change(*arguments):
    """Runs one of the operations of changing.py, and answers with what it printed."""
    return json.loads(execute([sys.executable, HERE / "changing.py", OPTIONS.uri, DATABASE, *map(str, arguments)]).stdout)


def sync(collection):
    """Catches up; answers with the run, and the seconds from the beginning of a batch to its commit, summed."""
    run = execute([OPTIONS.tributary, "sync", with_database(OPTIONS.uri), OPTIONS.work / "lake", "--once",
                   "--collection", collection, "--index", OPTIONS.work / "index", "--output", "json"])
    events = [json.loads(line) for line in run.stdout.splitlines()]
    applied = [event for event in events if event["event"] == "applied"]
    if events[-1].get("event") != "finished" or any("error" in c for c in events[-1]["collections"]):
        raise Failure(f"tributary sync: {events[-1]}")
    return run, sum(event["committedAt"] - event["begunAt"] for event in applied) / 1000, applied


def backlog():
    """Inserts and updates that have piled up, into a table of as many rows."""
    count = OPTIONS.changes
    note(f"backlog: {count:,} inserts and {count:,} updates")
    generate("backlog", 0, count)
    sync("backlog")
    since = change("now")
    generate("backlog", count, count)
    change("update", "backlog", count)
    rows = []
    for mode in ("default", "updateLookup"):
        drained = drain(since, mode)
        name = "change stream, raw" + (", updateLookup" if mode == "updateLookup" else "")
        rows.append([name, drained["events"], drained["seconds"], 0])
    run, _, applied = sync("backlog")
    changes = sum(event["changes"] for event in applied)
    rows.append(["tributary sync --once", changes, run.seconds, run.peak_bytes])
    raw = {name: events / seconds for name, events, seconds, _ in rows[:2]}
    own = changes / run.seconds
    shown = [[name, f"{events:,}", f"{events / seconds:,.0f}", f"{peak / 1e6:,.0f}" if peak else "",
              f"{own / raw[name]:.2f}" if name in raw else ""] for name, events, seconds, peak in rows]
    table(["contender", "changes", "changes/s", "peak MB", "tributary, of it"], shown)


def scaling():
    """The same number of random updates of tables of two sizes, and deltalake's merge of the same rows."""
    rows = []
    for size in (OPTIONS.rows // 10, OPTIONS.rows):
        note(f"updates: {OPTIONS.updates:,} of {size:,} rows")
        collection = f"updated{size}"
        generate(collection, 0, size)
        sync(collection)
        applied = []
        # The first one after the load reads what the index and the table have on disk.
        for _ in range(1 + OPTIONS.rounds):
            change("update", collection, OPTIONS.updates)
            run, seconds, _ = sync(collection)
            applied.append(seconds)
        first, again = applied[0], statistics.median(applied[1:])
        merged = change("merge", collection, OPTIONS.work / "lake" / DATABASE / collection, OPTIONS.work / "merged",
                        OPTIONS.updates)
        rows.append([size, first, again, run.seconds, run.peak_bytes, merged["seconds"]])
        shutil.rmtree(OPTIONS.work / "merged", ignore_errors=True)
    shown = [[f"{size:,}", f"{first:.2f}", f"{again:.2f}", f"{whole:.2f}", f"{peak / 1e6:,.0f}", f"{merge:.2f}",
              f"{merge / again:.1f}"] for size, first, again, whole, peak, merge in rows]
    table(["rows", "apply, s", f"apply again, median of {OPTIONS.rounds}, s", "whole process, s", "peak MB", "deltalake merge, s", "× as fast"], shown)
    print(f"\nTen times the rows cost {rows[1][2] / rows[0][2]:.2f} times as much.")


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures tributary sync.")
    parser.add_argument("--uri", default=os.environ.get("MONGODB_URI"), help="MongoDB server (MONGODB_URI)")
    parser.add_argument("--changes", type=int, default=200_000, help="inserts, and as many updates, of the backlog")
    parser.add_argument("--rows", type=int, default=4_000_000, help="of the larger of the tables that are updated")
    parser.add_argument("--updates", type=int, default=10_000, help="of each of these tables")
    parser.add_argument("--rounds", type=int, default=5, help="how often these are made again")
    parser.add_argument("--only", choices=["backlog", "scaling"], help="measure one of the two")
    parser.add_argument("--tributary", type=Path, default=ROOT / "target/release/tributary")
    parser.add_argument("--drain", type=Path, default=ROOT / "target/release/examples/drain_changes")
    parser.add_argument("--work", type=Path, default=None, help="directory for what is written (a temporary one)")
    options = parser.parse_args()
    if not options.uri:
        parser.error("name a replica set with --uri or MONGODB_URI")
    return options


if __name__ == "__main__":
    OPTIONS = arguments()
    with tempfile.TemporaryDirectory(prefix="tributary-bench-", dir=OPTIONS.work) as work:
        OPTIONS.work = Path(work)
        try:
            if OPTIONS.only != "scaling":
                backlog()
                print()
            if OPTIONS.only != "backlog":
                scaling()
        except Failure as failure:
            sys.exit(f"error: {failure}")
