"""Writes to a Delta table as a program that knows nothing of Tributary.

usage: foreign.py TABLE OPERATION [ARGUMENT]

Operations: delete PREDICATE, compact, sort, vacuum, restore VERSION, checkpoint, property NAME=VALUE.
Prints the version that it has made.
"""

import sys

from deltalake import DeltaTable

place, operation, *arguments = sys.argv[1:]
table = DeltaTable(place)
if operation == "delete":
    assert table.delete(arguments[0])["num_deleted_rows"] > 0
elif operation == "compact":
    assert table.optimize.compact()["numFilesRemoved"] > 0
elif operation == "sort":
    assert table.optimize.z_order(["n"])["numFilesRemoved"] > 0
elif operation == "vacuum":
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
elif operation == "restore":
    table.restore(int(arguments[0]))
elif operation == "checkpoint":
    table.create_checkpoint()
elif operation == "property":
    table.alter.set_table_properties(dict([arguments[0].split("=")]), raise_if_not_exists=False)
else:
    sys.exit(f"unknown operation {operation}")
print(DeltaTable(place).version())
