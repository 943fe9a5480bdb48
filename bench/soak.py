#!/usr/bin/env python3
"""Lets `tributary sync` follow a steady stream of changes, and fails unless the tables stay in step, in order and
right. See README.md beside this file."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import DATABASE, Failure, execute, note, redact, table, with_database

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# The 99th percentile of the time from the oldest change of a batch to its visibility: a second of gathering, one more
# that a large batch before it may take, and a half for all else.
LATENCY = 2.5
# Live data files of a table: up to eight of each of five sizes before they are joined, and as many that come while
# larger ones are being joined.
LIVE_FILES = 64
# Commits behind the last checkpoint: there is one after a hundred, which takes its time.
LOG_COMMITS = 250
# The part of the rate that must be reached, or nothing is said by the rest.
RATE = 0.95
# How often tables are looked at, in seconds.
LOOK_EVERY = 20
# How long a sync may take to begin, to catch up or to end.
PATIENCE = 120


class Sync:
    """A `tributary sync` that runs, and what it has told."""

    def __init__(self):
        self.told = open(OPTIONS.work / "told.jsonl", "w+b")
        self.errors = open(OPTIONS.work / "errors.txt", "w+b")
        command = [OPTIONS.tributary, "sync", with_database(OPTIONS.uri), OPTIONS.work / "lake", "--output", "json",
                   "--commit-interval", OPTIONS.commit_interval, "--index", OPTIONS.work / "index"]
        for name in OPTIONS.names:
            command += ["--collection", name]
        self.process = subprocess.Popen(command, stdout=self.told, stderr=self.errors, stdin=subprocess.DEVNULL)
        self.peak_bytes = 0

    def events(self, name):
        """Its events of this name so far."""
        lines = (OPTIONS.work / "told.jsonl").read_bytes().split(b"\n")[:-1]
        return [event for event in map(json.loads, lines) if event["event"] == name]

    def wait_until(self, what, is_so):
        """Waits until `is_so()`, as long as it runs."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            self.check()
            if time.monotonic() > deadline:
                raise Failure(f"waited in vain until {what}")
            time.sleep(0.2)

    def check(self):
        """Fails if it has ended."""
        if self.process.poll() is not None:
            raise Failure(f"tributary sync ended with {self.process.returncode}:\n{self.error()}")

    def error(self):
        """What it has told on standard error."""
        return redact((OPTIONS.work / "errors.txt").read_text(errors="replace")).strip()

    def stop(self):
        """Ends it as an operator does."""
        self.process.send_signal(signal.SIGTERM)
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.peak_bytes = usage.ru_maxrss * 1024
        if self.process.returncode != 0:
            raise Failure(f"tributary sync ended with {self.process.returncode}:\n{self.error()}")

    def kill(self):
        """Ends it in any case."""
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()


def helper(*arguments):
    """What soaking.py prints."""
    return json.loads(execute([sys.executable, HERE / "soaking.py", *map(str, arguments)]).stdout)


def look():
    """The files of each table now, by collection."""
    tables = [OPTIONS.work / "lake" / DATABASE / name for name in OPTIONS.names]
    return dict(zip(OPTIONS.names, helper("files", *tables)))


def percentile(values, percent):
    """The least value that so many of a hundred are not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def write(sync):
    """Changes the collections for as long as is asked; answers what the writer says, and the most files of each table."""
    command = [sys.executable, HERE / "soaking.py", OPTIONS.uri, DATABASE, "write", OPTIONS.rate, OPTIONS.seconds,
               OPTIONS.documents, *OPTIONS.names]
    with tempfile.TemporaryFile() as out:
        writer = subprocess.Popen(list(map(str, command)), stdout=out, stdin=subprocess.DEVNULL)
        most = look()
        try:
            while writer.poll() is None:
                try:
                    writer.wait(LOOK_EVERY)
                except subprocess.TimeoutExpired:
                    pass
                sync.check()
                for name, found in look().items():
                    most[name] = {key: max(value, most[name][key]) for key, value in found.items()}
                note(f"  {sum(event['changes'] for event in sync.events('applied')):,} changes applied")
        finally:
            if writer.poll() is None:
                writer.kill()
                writer.wait()
        if writer.returncode != 0:
            raise Failure(f"the writer ended with {writer.returncode}")
        out.seek(0)
        return json.loads(out.read()), most


def soak():
    """Runs all of it; answers why it is not as it should be."""
    note(f"filling {OPTIONS.collections} collections with {OPTIONS.documents:,} documents each")
    helper(OPTIONS.uri, DATABASE, "fill", OPTIONS.documents, *OPTIONS.names)
    sync = Sync()
    try:
        sync.wait_until("all is followed", lambda: len(sync.events("following")) >= OPTIONS.collections)
        note(f"{OPTIONS.rate:,.0f} changes a second for {OPTIONS.seconds:,.0f} s")
        written, most = write(sync)
        goal = sum(written["changes"].values())
        sync.wait_until(f"all {goal:,} changes are applied",
                        lambda: sum(event["changes"] for event in sync.events("applied")) >= goal)
        sync.stop()
    finally:
        sync.kill()
    applied = sync.events("applied")
    wrong = report(applied, written, most, sync.peak_bytes)
    note("comparing")
    try:
        execute([OPTIONS.tributary, "verify", with_database(OPTIONS.uri), OPTIONS.work / "lake",
                 *(part for name in OPTIONS.names for part in ("--collection", name))])
        print("tributary verify: everything agrees.")
    except Failure as failure:
        wrong.append(str(failure))
    return wrong


def report(applied, written, most, peak_bytes):
    """Prints what was found; answers what of it is not as it should be."""
    wrong = []
    latencies = {"oldest": lambda event: (event["committedAt"] - event["oldestChangedAt"]) / 1000,
                 "newest": lambda event: (event["committedAt"] - event["changedAt"]) / 1000}
    rows = []
    for name in [*OPTIONS.names, "all"]:
        events = [event for event in applied if name == "all" or event["namespace"] == f"{DATABASE}.{name}"]
        if not events:
            raise Failure(f"no change of {name} was applied")
        row = [name, f"{sum(event['changes'] for event in events):,}", f"{len(events):,}"]
        for which, latency in latencies.items():
            seconds = [latency(event) for event in events]
            row += [f"{value:.2f}" for value in (percentile(seconds, 50), percentile(seconds, 99), max(seconds))]
            if name == "all" and which == "oldest" and percentile(seconds, 99) > LATENCY:
                wrong.append(f"the oldest changes of batches took {percentile(seconds, 99):.2f} s (p99), "
                             f"more than {LATENCY} s")
        files = most.get(name)
        row += [str(files[key]) for key in ("live", "commits", "log")] if files else ["", "", ""]
        for key, bound, what in (("live", LIVE_FILES, "live files"), ("commits", LOG_COMMITS, "commits behind a checkpoint")):
            if files and files[key] > bound:
                wrong.append(f"{name} had {files[key]} {what}, more than {bound}")
        rows.append(row)
    table(["collection", "changes", "commits", "oldest p50, s", "p99", "max", "newest p50, s", "p99", "max",
           "live files", "commits behind checkpoint", "log files"], rows)
    print(f"\n{written['rate']:,.0f} changes a second were made, of {OPTIONS.rate:,.0f}; peak {peak_bytes / 1e6:,.0f} MB.")
    if written["rate"] < RATE * OPTIONS.rate:
        wrong.append(f"only {written['rate']:,.0f} changes a second could be made, of {OPTIONS.rate:,.0f}")
    return wrong


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Lets tributary sync follow a steady stream of changes.")
    parser.add_argument("--uri", default=os.environ.get("MONGODB_URI"), help="MongoDB replica set (MONGODB_URI)")
    parser.add_argument("--seconds", type=float, default=600, help="how long changes are made")
    parser.add_argument("--rate", type=float, default=1000, help="changes a second, of all collections together")
    parser.add_argument("--collections", type=int, default=3)
    parser.add_argument("--documents", type=int, default=50_000, help="of each collection in the beginning")
    parser.add_argument("--commit-interval", default="1s", help="as for tributary sync")
    parser.add_argument("--tributary", type=Path, default=ROOT / "target/release/tributary")
    parser.add_argument("--work", type=Path, default=None, help="directory for what is written (a temporary one)")
    options = parser.parse_args()
    if not options.uri:
        parser.error("name a replica set with --uri or MONGODB_URI")
    options.names = [f"soak{number}" for number in range(options.collections)]
    return options


if __name__ == "__main__":
    OPTIONS = arguments()
    with tempfile.TemporaryDirectory(prefix="tributary-soak-", dir=OPTIONS.work) as work:
        OPTIONS.work = Path(work)
        try:
            reasons = soak()
        except Failure as failure:
            reasons = [str(failure)]
    if reasons:
        sys.exit("\n".join(f"error: {reason}" for reason in reasons))
