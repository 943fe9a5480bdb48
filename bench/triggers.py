#!/usr/bin/env python3
"""Measures triggers and what publishes changes, in one run on one MongoDB server: an ordered trigger against pymongo's
watch() with a Python function, an unordered one against the same updates through the driver, the time from a change
to its function, and changes into a Kinesis stand-in against the raw change stream and what the stand-in takes. See
README.md beside this file."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from measuring import DATABASE, Failure, execute, note, table, with_database

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

ADD_TWO_FIELDS = """exports = function (event) {
  const document = event.fullDocument;
  document.total = document.price * document.quantity;
  document.seen = true;
  return document;
};
"""

COUNT_UP = """exports = async function (event) {
  const counted = context.services.get("mongodb-atlas").db(event.ns.db).collection("counted");
  await counted.updateOne({ _id: event.fullDocument.n }, { $inc: { seen: 1 } }, { upsert: true });
};
"""

MEASURE = """const ages = [];
exports = async function (event) {
  const now = Date.now();
  const document = event.fullDocument;
  if (!document.last) {
    ages.push(now - document.at);
    return;
  }
  await context.services.get("mongodb-atlas").db(event.ns.db).collection("ages").insertOne({ ages });
};
"""


# What is ended when the measurement fails.
STARTED = []


class Site:
    """A directory with a tributary.yaml that has one trigger, and the process that runs it."""

    def __init__(self, name, function, collection, more=""):
        self.directory = OPTIONS.work / name
        self.directory.mkdir()
        self.name = name
        (self.directory / "function.js").write_text(function)
        (self.directory / "tributary.yaml").write_text(
            "sources: { bench: { uri: '${BENCH_URI}' } }\n"
            "server: { listen: '127.0.0.1:0' }\n"
            f"triggers:\n  {name}:\n    source: bench\n    database: {DATABASE}\n    collection: {collection}\n"
            f"    operations: [insert]\n    function: ./function.js\n{more}")
        self.process = None

    def start(self):
        """Starts it, and waits until the trigger follows: what happens from then on is its."""
        environment = os.environ | {"BENCH_URI": with_database(OPTIONS.uri)}
        command = [OPTIONS.tributary, "run", self.directory / "tributary.yaml", "--output", "json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment,
                                        stdin=subprocess.DEVNULL)
        STARTED.append(self.process)
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                self.address = event["address"]
                break
        else:
            raise Failure("tributary run ended before it listened")
        self.wait(lambda status: status["state"] == "running" and status["positionAt"])

    def status(self):
        """What the API says of the trigger; it listens before there is one."""
        with urllib.request.urlopen(f"{self.address}/api/v1/triggers") as answer:
            triggers = json.load(answer)
        return triggers[0] if triggers else {"state": "starting", "positionAt": None}

    def wait(self, is_so, patience=600):
        """Waits until the status is as it is to be."""
        until = time.monotonic() + patience
        while not is_so(status := self.status()):
            if time.monotonic() > until:
                raise Failure(f"the trigger does not get there: {status}")
            time.sleep(0.05)
        return status

    def finished(self):
        """How many runs succeeded, by the numbers of this process: they are not gathered as the records are."""
        with urllib.request.urlopen(f"{self.address}/metrics") as answer:
            text = answer.read().decode()
        found = re.search(r'^tributary_trigger_duration_seconds_count\{trigger="' + self.name + r'"\} (\d+)', text, re.M)
        return int(found[1]) if found else 0

    def stop(self):
        """Ends it, and answers its peak memory."""
        self.process.terminate()
        self.process.stdout.read()
        _, _, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = 0
        return usage.ru_maxrss * 1024


def helper(*arguments):
    """Runs one of the operations of triggering.py, and answers with what it printed."""
    command = [sys.executable, HERE / "triggering.py", OPTIONS.uri, DATABASE, *map(str, arguments)]
    return json.loads(execute(command).stdout)


def backlog(site, collection, count):
    """Lets a trigger stand while documents are inserted, and measures how fast it takes them then."""
    site.start()
    site.stop()
    since = helper("now")
    helper("insert", collection, count)
    started = time.monotonic()
    site.start()
    starting = time.monotonic()
    while (done := site.finished()) < count:
        if time.monotonic() - started > 600:
            raise Failure(f"only {done} of {count} events ran")
        time.sleep(0.02)
    ended = time.monotonic()
    peak = site.stop()
    return since, ended - started, ended - starting, peak


def ordered():
    """An ordered trigger whose function adds two fields, and a Python function behind pymongo's watch()."""
    count = OPTIONS.events
    note(f"ordered: {count:,} events")
    site = Site("ordered", ADD_TWO_FIELDS, "ordered")
    since, whole, _, peak = backlog(site, "ordered", count)
    peer = count // 4
    run = execute([sys.executable, HERE / "peer_watch.py", OPTIONS.uri, DATABASE, "ordered", *map(str, since), str(peer)])
    watched = json.loads(run.stdout)
    drained = json.loads(execute([OPTIONS.drain, OPTIONS.uri, DATABASE, *map(str, since)]).stdout)
    own, theirs = count / whole, watched["events"] / watched["seconds"]
    raw = drained["events"] / drained["seconds"]
    table(["ordered, a function that adds two fields", "events/s", "peak MB", "× pymongo", "of the raw stream"],
          [["tributary run, its start included", f"{own:,.0f}", f"{peak / 1e6:,.0f}", f"{own / theirs:.1f}", f"{own / raw:.2f}"],
           ["pymongo watch(), a Python function", f"{theirs:,.0f}", f"{run.peak_bytes / 1e6:,.0f}", "1.0", f"{theirs / raw:.2f}"]])
    overhead = json.loads(execute([OPTIONS.overhead]).stdout)
    print(f"\nA call costs {overhead['together']:.1f} µs in batches, and {overhead['alone']:.1f} µs one at a time.")


def unordered():
    """An unordered trigger that does one update an event, and the same updates through the driver."""
    count, concurrency = OPTIONS.events // 4, 100
    note(f"unordered: {count:,} events")
    site = Site("unordered", COUNT_UP, "unordered",
                f"    ordered: false\n    options: {{ concurrency: {concurrency} }}\n")
    _, whole, _, peak = backlog(site, "unordered", count)
    run = execute([OPTIONS.updates, OPTIONS.uri, DATABASE, "driven", str(count), str(concurrency)])
    driven = json.loads(run.stdout)
    own, theirs = count / whole, driven["updates"] / driven["seconds"]
    table(["unordered, one updateOne", "events/s", "peak MB", "of the driver"],
          [["tributary run, its start included", f"{own:,.0f}", f"{peak / 1e6:,.0f}", f"{own / theirs:.2f}"],
           [f"the driver, {concurrency} at once", f"{theirs:,.0f}", f"{run.peak_bytes / 1e6:,.0f}", "1.00"]])


def latency():
    """The time from a change to its function, at a rate."""
    rate, seconds = 500, OPTIONS.seconds
    note(f"latency: {rate} events a second for {seconds} s")
    site = Site("latency", MEASURE, "latency")
    site.start()
    helper("pace", "latency", rate, seconds)
    ages = sorted(helper("ages"))
    site.stop()
    quantile = lambda part: ages[min(len(ages) - 1, int(len(ages) * part))]
    print(f"{len(ages):,} events, {rate} a second, from before the insert to the function: "
          f"p50 {quantile(0.5):.0f} ms, p99 {quantile(0.99):.0f} ms, max {ages[-1]:.0f} ms.")


def kinesis():
    """Changes into a Kinesis stand-in, against the raw change stream and against what the stand-in takes."""
    count = OPTIONS.events // 10
    note(f"kinesis: {count:,} changes")
    stream = f"bench{int(time.time())}"
    helper("stream", OPTIONS.aws, stream)
    target = f"kinesis://{stream}?region=us-east-1&endpoint={OPTIONS.aws}"
    environment = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
    command = [OPTIONS.tributary, "sync", with_database(OPTIONS.uri), target, "--collection", "published", "--once",
               "--state", OPTIONS.work / "kinesis", "--output", "json"]
    helper("insert", "published", 1)
    execute(command, environment)
    since = helper("now")
    helper("insert", "published", count)
    run = execute(command, environment)
    drained = json.loads(execute([OPTIONS.drain, OPTIONS.uri, DATABASE, *map(str, since)]).stdout)
    taken = helper("put", OPTIONS.aws, stream, count)
    own, raw = count / run.seconds, drained["events"] / drained["seconds"]
    most = taken["records"] / taken["seconds"]
    table(["changes into Kinesis (moto)", "changes/s", "of the lesser"],
          [["tributary sync --once", f"{own:,.0f}", f"{own / min(raw, most):.2f}"],
           ["change stream, raw", f"{raw:,.0f}", ""],
           ["what the stand-in takes, 500 at a time", f"{most:,.0f}", ""]])


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures triggers, and what publishes changes.")
    parser.add_argument("--uri", default=os.environ.get("MONGODB_URI"), help="MongoDB server (MONGODB_URI)")
    parser.add_argument("--aws", default=os.environ.get("AWS_ENDPOINT_URL"), help="stand-in of AWS (AWS_ENDPOINT_URL)")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seconds", type=int, default=20, help="of the measurement of latency")
    parser.add_argument("--only", choices=["ordered", "unordered", "latency", "kinesis"])
    parser.add_argument("--tributary", type=Path, default=ROOT / "target/release/tributary")
    parser.add_argument("--drain", type=Path, default=ROOT / "target/release/examples/drain_changes")
    parser.add_argument("--updates", type=Path, default=ROOT / "target/release/examples/update_rate")
    parser.add_argument("--overhead", type=Path, default=ROOT / "target/release/examples/call_overhead")
    options = parser.parse_args()
    if not options.uri or not options.aws:
        parser.error("name a replica set with --uri or MONGODB_URI, and a stand-in of AWS with --aws or AWS_ENDPOINT_URL")
    return options


if __name__ == "__main__":
    OPTIONS = arguments()
    with tempfile.TemporaryDirectory(prefix="tributary-bench-") as work:
        OPTIONS.work = Path(work)
        try:
            for measure in (ordered, unordered, latency, kinesis):
                if OPTIONS.only in (None, measure.__name__):
                    measure()
                    print()
        except Failure as failure:
            sys.exit(f"error: {failure}")
        finally:
            for process in STARTED:
                if process.returncode is None:
                    process.kill()
