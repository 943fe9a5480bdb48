"""Changes a table that follows a collection, as only another program would.

usage: tamper.py TABLE

Deletes the row with _id 3, gives the one with _id 5 another `n`, and puts one with _id 900 there.
"""

import sys

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

table = DeltaTable(sys.argv[1])
table.delete("_id = 3")
table.update(predicate="_id = 5", updates={"n": "-5"})
row = pa.table({"_id": pa.array([900], pa.int32()), "n": pa.array([900], pa.int32()), "s": ["extra"]})
write_deltalake(sys.argv[1], row, mode="append", schema_mode="merge")
