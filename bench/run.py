#!/usr/bin/env python3
"""Measures `tributary copy` side by side with its peers, in one run on one MongoDB server. See README.md beside this
file."""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from measuring import DATABASE, Failure, execute, note, table, with_database

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent

# How many documents a set has for each document of `flat`: big documents are measured by bytes, not by number.
SETS = {"flat": 1.0, "nested": 1.0, "4k": 0.1, "250k": 0.002, "wide": 0.05, "banking": 0.02}
CONTENDERS = ["drain", "tributary", "pymongoarrow", "sling"]


@dataclass
class Runs:
    """All executions of one contender over one set."""

    runs: list = field(default_factory=list)

    @property
    def seconds(self):
        """The median duration."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def peak_bytes(self):
        """The median peak of resident memory."""
        return statistics.median(run.peak_bytes for run in self.runs)


def helper(script, *arguments):
    """The output of one of the scripts beside this one."""
    return execute([sys.executable, HERE / script, *map(str, arguments)]).stdout


def server(collection):
    """Documents and bytes of a collection, as the server counts them."""
    return json.loads(helper("server.py", OPTIONS.uri, DATABASE, collection))


def sling_binary():
    """The binary inside the wheel: started directly, so that its memory is measured and not a launcher's."""
    for directory in map(Path, sys.path):
        binary = directory / "sling_linux_amd64" / "bin" / "sling-linux-amd64"
        if binary.is_file():
            binary.chmod(binary.stat().st_mode | 0o111)
            return binary
    raise Failure("sling is not installed: pip install -r bench/requirements.txt")


def contend(contender, collection, target):
    """Runs one contender over one collection; answers with the measurement and the documents that it has written."""
    if contender == "drain":
        run = execute([OPTIONS.drain, OPTIONS.uri, DATABASE, collection])
        return run, json.loads(run.stdout)["documents"]
    if contender == "tributary":
        run = execute([OPTIONS.tributary, "copy", with_database(OPTIONS.uri), target,
                       "--collection", collection, "--output", "json"])
        last = json.loads(run.stdout.strip().splitlines()[-1])
        if last.get("event") != "finished":
            raise Failure(f"tributary copy printed no summary but {last}")
        said = sum(copied["documents"] for copied in last["collections"])
        written = int(helper("count.py", *(copied["table"] for copied in last["collections"])))
        if said != written:
            raise Failure(f"tributary copy reports {said} documents, its table holds {written}")
        return run, written
    if contender == "pymongoarrow":
        path = target / "table.parquet"
        run = execute([sys.executable, HERE / "peer_pymongoarrow.py", OPTIONS.uri, DATABASE, collection, path])
    else:
        path = target / "table.arrow"
        stream = ["--src-conn", "BENCH_SOURCE", "--src-stream", f"{DATABASE}.{collection}"]
        # Without `flatten` the file has a single column of JSON text.
        stream += ["--src-options", '{"flatten": true}', "--tgt-object", f"file://{path}"]
        environment = {"BENCH_SOURCE": OPTIONS.uri, "SLING_HOME_DIR": str(OPTIONS.work / "sling"),
                       "SLING_DISABLE_TELEMETRY": "true"}
        run = execute([sling_binary(), "run", *stream], environment)
    return run, int(helper("count.py", path))


def measure(contender, collection, expected):
    """One run of one contender, checked: its output is deleted afterwards."""
    target = Path(tempfile.mkdtemp(prefix=f"{contender}-", dir=OPTIONS.work))
    try:
        run, written = contend(contender, collection, target)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    if written != expected:
        raise Failure(f"{contender} wrote {written} documents of {DATABASE}.{collection}, which has {expected}")
    note(f"  {contender:<13}{run.seconds:8.2f} s {run.peak_bytes / 1e6:8.0f} MB resident")
    return run


def generate(kind, collection, documents):
    """Fills a collection, unless it already holds that many documents."""
    if OPTIONS.reuse and server(collection)["documents"] == documents:
        return
    note(f"generating {documents:,} documents into {DATABASE}.{collection}")
    execute([OPTIONS.tributary, "demo-data", with_database(OPTIONS.uri), "--collection", collection, "--kind", kind,
             "--count", str(documents), "--seed", "1", "--drop"])


def compare(kind, documents):
    """Measures all contenders over one set, turn and turn about, and answers with the rows of the table."""
    generate(kind, kind, documents)
    size = server(kind)
    note(f"{kind}: {size['documents']:,} documents, {size['bytes'] / 1e6:,.0f} MB of BSON")
    if size["documents"] == 0:
        raise Failure(f"{DATABASE}.{kind} is empty")
    execute([OPTIONS.drain, OPTIONS.uri, DATABASE, kind])
    measured = {contender: Runs() for contender in OPTIONS.contenders}
    for _ in range(OPTIONS.repeat):
        for contender, runs in measured.items():
            runs.runs.append(measure(contender, kind, size["documents"]))
    return [row(kind, size, contender, measured) for contender in measured]


def row(kind, size, contender, measured):
    """One line of the table, as texts."""
    runs = measured[contender]

    def times_as_fast(winner, loser):
        if winner not in measured or loser not in measured or winner == loser:
            return ""
        return f"{measured[loser].seconds / measured[winner].seconds:.2f}"

    return [
        kind,
        contender,
        f"{size['documents'] / runs.seconds:,.0f}",
        f"{size['bytes'] / 1e6 / runs.seconds:,.1f}",
        f"{runs.peak_bytes / 1e6:,.0f}",
        times_as_fast(contender, "drain"),
        times_as_fast("tributary", contender) if contender != "drain" else "",
    ]


def memory():
    """Tributary's peak over flat documents, and over four times as many."""
    rows = []
    for documents in (OPTIONS.documents, 4 * OPTIONS.documents):
        collection = f"flat{documents}"
        generate("flat", collection, documents)
        run = measure("tributary", collection, documents)
        rows.append([f"{documents:,}", f"{run.seconds:.1f}", f"{run.peak_bytes / 1e6:,.0f}"])
    return rows


def build():
    """Builds the drain, unless it is there."""
    if not OPTIONS.drain.exists():
        note("building the drain")
        execute(["cargo", "build", "--release", "--workspace", "--example", "drain",
                 "--manifest-path", ROOT / "Cargo.toml"])


def names(allowed):
    """A parser of comma-separated names."""
    def parse(text):
        chosen = text.split(",")
        unknown = [name for name in chosen if name not in allowed]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(allowed)}")
        return chosen
    return parse


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Measures Tributary side by side with its peers.")
    parser.add_argument("--uri", default=os.environ.get("MONGODB_URI"), help="MongoDB server (MONGODB_URI)")
    parser.add_argument("--documents", type=int, default=1_000_000, help="of `flat`; the other sets follow from it")
    parser.add_argument("--sets", type=names(SETS), default="flat,nested,4k,250k,wide")
    parser.add_argument("--contenders", type=names(CONTENDERS), default=",".join(CONTENDERS))
    parser.add_argument("--repeat", type=int, default=3, help="runs of each contender, of which the median counts")
    parser.add_argument("--tributary", type=Path, default=ROOT / "target/release/tributary")
    parser.add_argument("--drain", type=Path, default=ROOT / "target/release/examples/drain")
    parser.add_argument("--work", type=Path, default=None, help="directory for what is written (a temporary one)")
    parser.add_argument("--reuse", action="store_true", help="keep collections that have the right number of documents")
    parser.add_argument("--memory", action="store_true", help="also check memory over four times as many documents")
    options = parser.parse_args()
    if not options.uri:
        parser.error("name a server with --uri or MONGODB_URI")
    return options


def main():
    """Measures, then prints."""
    build()
    rows = []
    for kind in OPTIONS.sets:
        rows += compare(kind, max(1, round(OPTIONS.documents * SETS[kind])))
    peaks = memory() if OPTIONS.memory else []
    version = server(OPTIONS.sets[0])["version"]
    print(f"MongoDB {version}, {os.cpu_count()} cores, median of {OPTIONS.repeat}\n")
    header = ["set", "contender", "documents/s", "MB/s of BSON", "peak MB", "of drain", "tributary is × as fast"]
    table(header, rows)
    if peaks:
        print()
        table(["flat documents", "seconds", "tributary's peak MB"], peaks)


if __name__ == "__main__":
    OPTIONS = arguments()
    with tempfile.TemporaryDirectory(prefix="tributary-bench-", dir=OPTIONS.work) as work:
        OPTIONS.work = Path(work)
        try:
            main()
        except Failure as failure:
            sys.exit(f"error: {failure}")
