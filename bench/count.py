"""Counts the rows that a contender has written, as its readers would: with pyarrow or delta-rs.

Usage: count.py PATH…
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def rows(path):
    """The rows of a Delta table, a Parquet file or an Arrow file."""
    if path.is_dir():
        return delta_rows(path)
    if path.suffix == ".parquet":
        return pq.ParquetFile(path).metadata.num_rows
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return sum(reader.get_batch(number).num_rows for number in range(reader.num_record_batches))


def delta_rows(path):
    """Counts the rows of the files of the table's current version, whatever their statistics say."""
    import duckdb
    from deltalake import DeltaTable

    files = DeltaTable(path).file_uris()
    if not files:
        return 0
    return duckdb.execute("SELECT count(*) FROM read_parquet($1)", [files]).fetchone()[0]


if __name__ == "__main__":
    print(sum(rows(Path(argument.removeprefix("file://"))) for argument in sys.argv[1:]))
