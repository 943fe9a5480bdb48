"""Replays the change data feed of a table that follows a collection, version by version.

usage: feed.py READER MONGODB_URI DATABASE COLLECTION DIRECTORY [FIRST]

Readers: deltalake, and kernel, which is Delta Kernel as Delta Sharing has it. What a version takes away must be there as
it was, what it brings must not be there yet, and in the end the rows are the collection's documents (of integers, texts
and binary data). Prints a JSON object a version: its operation, and the keys that were inserted, updated and deleted.
Begins with the version FIRST (0) and the rows that the table had before.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pymongo

OWN = {"_change_type", "_commit_version", "_commit_timestamp", "_rescued_data"}


def changes(reader, directory, version):
    if reader == "deltalake":
        from deltalake import DeltaTable

        return pa.table(DeltaTable(directory).load_cdf(version, version).read_all()).to_pylist()
    import delta_kernel_rust_sharing_wrapper as kernel

    url = Path(directory).as_uri() + "/"
    scan = kernel.TableChangesScanBuilder(kernel.Table(url), kernel.PythonInterface(url), version, version).build()
    return [row for batch in scan.execute(kernel.PythonInterface(url)) for row in batch.to_pylist()]


def rows_of(directory, version):
    from deltalake import DeltaTable, QueryBuilder

    table = DeltaTable(directory, version=version)
    rows = pa.table(QueryBuilder().register("t", table).execute("SELECT * FROM t").read_all()).to_pylist()
    return {row["_id"]: content_of(row) for row in rows}


def content_of(row):
    return {k: v for k, v in row.items() if k not in OWN and v is not None}


def main():
    reader, uri, database, name, directory = sys.argv[1:6]
    first = int(sys.argv[6]) if len(sys.argv) > 6 else 0
    rows = rows_of(directory, first - 1) if first else {}
    logs = sorted(Path(directory, "_delta_log").glob("*.json"))
    for version, log in enumerate(logs[first:], first):
        assert int(log.stem) == version, f"{log} is missing"
        actions = map(json.loads, log.read_text().splitlines())
        operation = next(a["commitInfo"]["operation"] for a in actions if "commitInfo" in a)
        gone, came = {}, {}
        for row in changes(reader, directory, version):
            assert row["_commit_version"] == version, row
            content = content_of(row)
            kind = row["_change_type"]
            side = gone if kind in ("delete", "update_preimage") else came
            assert content["_id"] not in side, f"version {version}: {kind} {content['_id']} twice"
            side[content["_id"]] = (kind, content)
        for key, (kind, content) in gone.items():
            assert rows.pop(key) == content, f"version {version}: {kind} {content}"
            assert (kind == "update_preimage") <= (key in came), f"version {version}: {key} has no new image"
        for key, (kind, content) in came.items():
            assert key not in rows, f"version {version}: {kind} {content}, but there is {rows[key]}"
            assert (kind == "update_postimage") <= (key in gone), f"version {version}: {key} has no old image"
            rows[key] = content
        told = {
            "operation": operation,
            "inserted": sorted(came.keys() - gone.keys()),
            "updated": sorted(came.keys() & gone.keys()),
            "deleted": sorted(gone.keys() - came.keys()),
        }
        print(json.dumps(told))
    documents = {d["_id"]: content_of(d) for d in pymongo.MongoClient(uri)[database][name].find()}
    assert rows == documents, "the feed leads to other rows than there are documents"


main()
