"""The contender `pymongoarrow`: a whole collection as one Arrow table, then one Zstandard Parquet file.

Usage: peer_pymongoarrow.py URI DATABASE COLLECTION FILE
"""

import sys

import pyarrow as pa
import pyarrow.parquet as pq
from pymongo import MongoClient
from pymongoarrow.api import find_arrow_all


def storage(kind):
    """The type that Parquet can hold in place of `kind`: extension types become what they are stored as."""
    if isinstance(kind, pa.BaseExtensionType):
        return storage(kind.storage_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(storage(field.type)) for field in kind])
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(storage(kind.value_type)))
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(storage(kind.value_type)))
    return kind


def unwrap(array):
    """`array` with every extension type in it replaced by its storage; no value is copied."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return unwrap(array.storage)
    if storage(kind) == kind:
        return array
    validity = array.is_null() if array.null_count else None
    if pa.types.is_struct(kind):
        children = [unwrap(array.field(position)) for position in range(kind.num_fields)]
        return pa.StructArray.from_arrays(children, fields=list(storage(kind)), mask=validity)
    maker = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
    return maker.from_arrays(array.offsets, unwrap(array.values), type=storage(kind), mask=validity)


def main():
    uri, database, collection, path = sys.argv[1:]
    table = find_arrow_all(MongoClient(uri)[database][collection], {})
    columns = [pa.chunked_array([unwrap(chunk) for chunk in column.chunks], storage(column.type))
               for column in table.columns]
    pq.write_table(pa.table(columns, names=table.column_names), path, compression="zstd")


if __name__ == "__main__":
    main()
