"""Compares a collection, read with pymongo, with what another program reads of its copy.

usage: compare.py READER MONGODB_URI DATABASE COLLECTION DIRECTORY

Knows the documented types only, not how they were made. Prints "N documents agree", or the first
differences and exits with 1.
"""

import base64
import glob
import json
import math
import os
import sys
from datetime import datetime, timezone
from decimal import Decimal

import pyarrow as pa
import pymongo
from bson import json_util
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from bson.timestamp import Timestamp

OPTIONS = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS, unicode_decode_error_handler="surrogateescape")
JSON_OPTIONS = json_util.JSONOptions(
    datetime_conversion=DatetimeConversion.DATETIME_MS, json_mode=json_util.JSONMode.CANONICAL
)
# Sail takes the values of a file of one row from its statistics, whose doubles it reads to their last bit but one.
CLOSE_DOUBLES = sys.argv[1:2] == ["sail"]
SPECIAL = (Timestamp, Regex, Code, MinKey, MaxKey, DBRef)


def raw_elements(raw):
    """Names and bytes of a document's elements: pymongo's dict keeps the last of equal names only."""
    raw = bytes(raw)
    names, at = [], 4
    fixed = {1: 8, 7: 12, 8: 1, 9: 8, 10: 0, 6: 0, 16: 4, 17: 8, 18: 8, 19: 16, 255: 0, 127: 0}
    while raw[at]:
        kind, end = raw[at], raw.index(0, at + 1)
        names.append(raw[at + 1 : end])
        at = end + 1
        size = lambda offset=0: int.from_bytes(raw[at + offset : at + offset + 4], "little")
        if kind in fixed:
            at += fixed[kind]
        elif kind in (2, 13, 14):
            at += 4 + size()
        elif kind in (3, 4, 15):
            at += size()
        elif kind == 5:
            at += 5 + size()
        elif kind == 11:
            at = raw.index(0, raw.index(0, at) + 1) + 1
        elif kind == 12:
            at += 4 + size() + 12
        else:
            raise ValueError(f"type {kind}")
    return names


class Double(Decimal):
    """The exact value of a double, told from numbers of other types."""


def normal(value):
    """A value as both sides can be brought to: a tuple of its sort and its content."""
    if value is None:
        return None
    if isinstance(value, bool):
        return ("bool", value)
    if isinstance(value, (int, Int64)):
        return ("number", Decimal(int(value)))
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return ("double", str(value))
        return ("number", Double(value))
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    if isinstance(value, Decimal):
        return ("number", value) if value.is_finite() else ("decimal", str(value))
    if isinstance(value, datetime):
        return ("date", round((value.replace(tzinfo=value.tzinfo or timezone.utc) - EPOCH).total_seconds() * 1000))
    if isinstance(value, DatetimeMS):
        return ("date", int(value))
    if isinstance(value, ObjectId):
        return ("text", str(value))
    if isinstance(value, Binary) and value.subtype == 4 and len(value) == 16:
        return ("text", str(value.as_uuid()))
    if isinstance(value, Binary):
        return ("bytes", bytes(value))
    if isinstance(value, bytes):
        return ("bytes", value)
    if isinstance(value, SPECIAL):
        return ("special", json_util.dumps(value, json_options=JSON_OPTIONS))
    if isinstance(value, str):
        return ("text", value)
    if isinstance(value, (list, tuple)):
        return ("array", [normal(v) for v in value])
    if isinstance(value, dict):
        return ("document", {k: normal(v) for k, v in value.items()})
    raise TypeError(type(value))


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def same(expected, found):
    """Whether two normal values agree. What was found may be Extended JSON text of the value."""
    if expected is None or found is None:
        # pymongo reads undefined as None.
        return expected is None and found in (None, ("text", '{"$undefined":true}'))
    if expected[0] == found[0]:
        if expected[0] == "document":
            keys = set(expected[1]) | set(found[1])
            return all(same(expected[1].get(k), found[1].get(k)) for k in keys)
        if expected[0] == "array":
            return len(expected[1]) == len(found[1]) and all(map(same, expected[1], found[1]))
        if expected == found:
            return True
        if CLOSE_DOUBLES and isinstance(expected[1], Double) and isinstance(found[1], Double):
            return math.isclose(expected[1], found[1], rel_tol=1e-15)
    return found[0] == "text" and same_as_json(expected, found[1])


def same_as_json(expected, text):
    try:
        parsed = json_util.loads(text, json_options=JSON_OPTIONS)
    except Exception:
        return False
    found = normal(parsed)
    if found == expected:
        return True
    if found is None or found[0] == "text":
        return False
    return same(expected, found)


def column_names(fields, at_root=True):
    """The documented rule for names: equal but for case gets a number, empty becomes `_`."""
    taken = {"_rescued_data"} if at_root else set()
    names = {}
    for field in fields:
        wanted = field or "_"
        name, number = wanted, 2
        while name.lower() in taken:
            name = f"{wanted}_{number}"
            number += 1
            while name in fields:
                name = f"{wanted}_{number}"
                number += 1
        taken.add(name.lower())
        names[field] = name
    return names


def read(reader, directory, table):
    if reader == "deltalake":
        from deltalake import DeltaTable, QueryBuilder

        table = pa.table(QueryBuilder().register("t", DeltaTable(directory)).execute("SELECT * FROM t").read_all())
        return rows_of(table), table.schema
    if reader == "deltalake-pyarrow":
        # Refuses tables with deletion vectors.
        from deltalake import DeltaTable

        table = DeltaTable(directory).to_pyarrow_table()
        return rows_of(table), table.schema
    if reader == "polars":
        import polars

        table = polars.scan_delta(directory).collect().to_arrow()
        return rows_of(table), table.schema
    if reader == "duckdb":
        import duckdb

        table = duckdb.sql(f"SELECT * FROM read_parquet('{directory}/*.parquet')").to_arrow_table()
        return rows_of(table), table.schema
    if reader == "duckdb-delta":
        # The files of the current version and nothing else of the log, as by a manifest.
        import duckdb
        from deltalake import DeltaTable

        files = DeltaTable(directory).file_uris()
        table = duckdb.read_parquet(files, union_by_name=True).to_arrow_table()
        return rows_of(table), table.schema
    if reader == "manifest":
        table = read_manifest(directory)
        return rows_of(table), table.schema
    if reader == "sail":
        from pysail.spark import SparkConnectServer
        from pyspark.sql import SparkSession

        server = SparkConnectServer("127.0.0.1", 0)
        server.start(background=True)
        spark = SparkSession.builder.remote(f"sc://127.0.0.1:{server.listening_address[1]}").getOrCreate()
        spark.conf.set("spark.sql.session.timeZone", "UTC")
        table = spark.read.format("delta").load(directory).toArrow()
        return rows_of(table), table.schema
    if reader == "pyarrow":
        import pyarrow.parquet

        tables = [pa.parquet.read_table(path) for path in sorted(glob.glob(f"{directory}/*.parquet"))]
        table = pa.concat_tables(tables)
        return rows_of(table), table.schema
    if reader == "avro":
        import fastavro

        # Python's own dates end with the year 9999.
        fastavro.read.LOGICAL_READERS["long-timestamp-micros"] = lambda micros, *_: DatetimeMS(micros // 1000)
        rows = []
        for path in sorted(glob.glob(f"{directory}/*.avro")):
            with open(path, "rb") as file:
                rows += list(fastavro.reader(file))
        return rows, None
    if reader == "postgres":
        return read_postgres(directory, *table), None
    if reader == "redshift":
        return read_redshift(directory, *table), None
    raise ValueError(reader)


def json_as_text():
    """Has JSON come as text again, without what jsonb changes: spaces, and numbers that are spelled out."""
    from psycopg.types.json import set_json_loads

    number = lambda digits: float(digits) if len(digits) > 40 else int(digits)
    compact = {"separators": (",", ":"), "ensure_ascii": False}
    set_json_loads(lambda text: json.dumps(json.loads(text, parse_int=number), **compact))


def quote(name):
    return '"' + name.replace('"', '""') + '"'


def read_redshift(address, schema, name):
    """Rows as dicts by fields. The names of columns are in lower case, and the ledger says whose they are."""
    import psycopg

    json_as_text()
    text = lambda value: "'" + value.replace("'", "''") + "'"
    schema, name = schema.lower(), name.lower()
    with psycopg.connect(address.replace("redshift://", "postgresql://")) as connection:
        of = f"table_schema = {text(schema)} AND table_name = {text(name)}"
        parts = connection.execute(
            f'SELECT "sequence", "definition" FROM "tributary"."ledger" WHERE {of} ORDER BY "sequence" DESC, "part"'
        ).fetchall()
        definition = json.loads("".join(part for sequence, part in parts if sequence == parts[0][0]))
        kinds = dict(connection.execute(f"SELECT column_name, data_type FROM svv_columns WHERE {of}").fetchall())
        own = "_rescued_data"
        columns = [(c["name"], c["name"] if c["field"] == own else c["field"]) for c in definition["columns"]]
        columns.append(("_rescued_data", "_rescued_data"))
        assert set(kinds) == {column for column, _ in columns}, (kinds, columns)
        is_date = lambda column: kinds[column] == "timestamp with time zone"
        chosen = [
            f"extract(epoch FROM {quote(column)}) * 1000" if is_date(column) else quote(column) for column, _ in columns
        ]
        found = connection.execute(f'SELECT {", ".join(chosen)} FROM {quote(schema)}.{quote(name)}').fetchall()
    rows = []
    for values in found:
        row = {}
        for (column, field), value in zip(columns, values):
            if value is not None and is_date(column):
                value = DatetimeMS(int(value))
            row[field] = value
        entries = json.loads(row["_rescued_data"]) if row["_rescued_data"] else []
        # A value is JSON as text, in parts where it is long.
        whole = lambda entry: "".join(entry["parts"]) if entry["value"] is None else entry["value"]
        entries = [{"path": entry["path"], "value": json.loads(whole(entry))} for entry in entries]
        row["_rescued_data"] = json.dumps(entries) if entries else None
        rows.append(row)
    return rows


def names_of(table):
    """The names of a table's files, relative to it and not escaped."""
    from urllib.parse import unquote

    return [unquote(name) for name in pa.table(table.get_add_actions()).column("path").to_pylist()]


def read_manifest(place):
    """The files that the symlink manifest names, as plain Parquet; they must be those of the newest version."""
    import pyarrow.parquet
    from deltalake import DeltaTable
    from pyarrow.fs import LocalFileSystem, S3FileSystem

    if place.startswith("s3://"):
        endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
        files = S3FileSystem(endpoint_override=endpoint, scheme="http", region=os.environ["AWS_REGION"])
        scheme = "s3://"
    else:
        files = LocalFileSystem()
        scheme = "file:"
    root = place.removeprefix("s3://")
    with files.open_input_stream(f"{root}/_symlink_format_manifest/manifest") as file:
        text = file.read().decode()
    assert text == "" or text.endswith("\n"), text
    paths = []
    for line in text.splitlines():
        assert line.startswith(scheme), line
        paths.append(line.removeprefix(scheme))
    assert sorted(paths) == sorted(f"{root}/{name}" for name in names_of(DeltaTable(place))), text
    tables = [pa.parquet.read_table(path, filesystem=files, partitioning=None) for path in paths]
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def read_postgres(address, schema, name):
    """Rows as dicts. JSON comes as its text, and dates as milliseconds: Python's own end with the year 9999."""
    import psycopg

    json_as_text()
    table = f"{quote(schema)}.{quote(name)}"
    with psycopg.connect(address) as connection:
        columns = connection.execute(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute"
            " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
            (table,),
        ).fetchall()
        quoted = [(column, quote(column), kind) for column, kind in columns]
        chosen = [
            f"extract(epoch FROM {column}) * 1000" if kind == "timestamp with time zone" else column
            for _, column, kind in quoted
        ]
        found = connection.execute(f'SELECT {", ".join(chosen)} FROM {table}').fetchall()
    rows = []
    for values in found:
        row = {}
        for (column, _, kind), value in zip(quoted, values):
            if value is not None and kind == "timestamp with time zone":
                value = DatetimeMS(int(value))
            if value is not None and kind == "uuid":
                value = str(value)
            row[column] = value
        rows.append(row)
    return rows


def rows_of(table):
    """Rows as dicts; timestamps as DatetimeMS, since datetime ends with the year 9999."""
    columns = []
    for column, field in zip(table.columns, table.schema):
        if pa.types.is_timestamp(field.type):
            unit = {"ms": 1, "us": 1000, "ns": 1_000_000}[field.type.unit]
            values = column.cast(pa.int64()).to_pylist()
            columns.append([None if v is None else DatetimeMS(v // unit) for v in values])
        else:
            columns.append(column.to_pylist())
    return [dict(zip(table.schema.names, row)) for row in zip(*columns)]


def at_path(document, path):
    """The holder and key of the value at a JSON pointer."""
    steps = [s.replace("~1", "/").replace("~0", "~") for s in path.split("/")[1:]]
    for step in steps[:-1]:
        document = document[int(step)] if isinstance(document, list) else document[step]
    last = steps[-1]
    return document, int(last) if isinstance(document, list) else last


def without_rescued(document, text, raw):
    """The document with the rescued values taken out, each of which must be what it was."""
    problems = []
    names = raw_elements(raw)
    seen_twice = [name for name in set(names) if names.count(name) > 1]
    for entry in json.loads(text) if text else []:
        holder, key = at_path(document, entry["path"])
        value = entry["value"]
        was = holder[key]
        if isinstance(value, dict) and list(value) == ["$invalidUTF8"]:
            if was.encode("utf-8", "surrogateescape") != base64.b64decode(value["$invalidUTF8"]):
                problems.append(f"rescued {entry}: {was!r}")
        else:
            found = normal(json_util.loads(json.dumps(value), json_options=JSON_OPTIONS))
            if found != normal(was):
                problems.append(f"rescued {entry}: {was!r}")
        if holder is document and isinstance(key, str) and key.encode() in seen_twice:
            # pymongo has the last of the values, and the table's column the first.
            holder[key] = ...
        else:
            holder[key] = None
    return problems


def key_of(value):
    return repr(normal(value))


def compare_rows(collection, rows, avro=False):
    documents = list(collection.find())
    raws = list(collection.with_options(CodecOptions(document_class=RawBSONDocument)).find())
    if len(documents) != len(rows):
        return [f"{len(documents)} documents, but {len(rows)} rows"]
    fields, problems = [], []
    for document in documents:
        fields += [field for field in document if field not in fields]
    remaining = list(rows)
    by_key = {}
    for row in remaining:
        by_key.setdefault(canonical_key(key_of_row(row)), []).append(row)
    for document, raw in zip(documents, raws):
        candidates = by_key.get(canonical_key(document["_id"]))
        if not candidates:
            problems.append(f"no row for _id {document['_id']!r}")
            continue
        row = candidates[0]
        problems += without_rescued(document, row.get("_rescued_data"), raw.raw)
        used = set()
        for field, value in document.items():
            if value is ...:
                continue
            names = [field] if field in row else []
            # A name that had to change is found by its value, below its documented spellings.
            names += [n for n in row if n != field and is_spelling(n, field, avro)]
            if value is None and all(row[n] is None for n in names):
                continue
            match = [n for n in names if n not in used and agrees(value, row[n], avro)]
            if not match:
                problems.append(f"_id {document['_id']!r} field {field!r}: {value!r} is {[row[n] for n in names]!r}")
            else:
                used.add(match[0])
        for name in row:
            spelled = [f for f in document if f == name or is_spelling(name, f, avro)]
            if row[name] is not None and name != "_rescued_data" and not spelled:
                problems.append(f"_id {document['_id']!r} has {name!r} = {row[name]!r} from nowhere")
    return problems


def key_of_row(row):
    """The key: in its column, or among the rescued values where there is none that could hold it."""
    for entry in json.loads(row.get("_rescued_data") or "[]"):
        if entry["path"] == "/_id" and row.get("_id") is None:
            return json_util.loads(json.dumps(entry["value"]), json_options=JSON_OPTIONS)
    return row.get("_id")


def canonical_key(value):
    """A key as one text, whether it comes from a document or as text from a table."""
    if isinstance(value, str):
        try:
            value = json_util.loads(value, json_options=JSON_OPTIONS)
        except Exception:
            pass
    normalised = normal(value)
    if normalised and normalised[0] == "number":
        return f"number {normalised[1].normalize()}"
    return repr(normalised)


def is_spelling(name, field, avro):
    import re

    if len(field.encode()) > 63 and re.fullmatch(".*_[0-9a-f]{8}", name) and field.startswith(name[:-9]):
        # A name that is too long for a warehouse ends with its hash.
        return True
    wanted = field or "_"
    if avro:
        wanted = re.sub("[^A-Za-z0-9]", "_", field) or "_"
        wanted = re.sub("^([0-9])", r"_\1", wanted)
    return re.fullmatch(re.escape(wanted) + r"(_\d+)?", name) is not None


def agrees(value, found, avro):
    expected, found = normal(value), normal(found)
    return same(respelled(expected), found) or same(expected, found) if avro else same(expected, found)


def respelled(value):
    """A normal value with its fields' names as Avro spells them."""
    import re

    if value is not None and value[0] == "document":
        spell = lambda name: re.sub("^([0-9])", r"_\1", re.sub("[^A-Za-z0-9]", "_", name)) or "_"
        return ("document", {spell(k): respelled(v) for k, v in value[1].items()})
    if value is not None and value[0] == "array":
        return ("array", [respelled(v) for v in value[1]])
    return value


def compare_jsonl(collection, directory, mode):
    rows = []
    for path in sorted(glob.glob(f"{directory}/*.jsonl")):
        with open(path, encoding="utf-8") as file:
            rows += file.read().split("\n")[:-1]
    documents = list(collection.find())
    if len(rows) != len(documents):
        return [f"{len(documents)} documents, but {len(rows)} lines"]
    problems = []
    by_key = {}
    for row in rows:
        parsed = json_util.loads(row, json_options=JSON_OPTIONS)
        by_key[canonical_key(parsed["_id"])] = (row, parsed)
    for document in documents:
        row, parsed = by_key[canonical_key(document["_id"])]
        if "$invalidUTF8" in row:
            continue
        if mode == "canonical":
            expected = json_util.dumps(document, json_options=JSON_OPTIONS)
            if normal(json_util.loads(expected, json_options=JSON_OPTIONS)) != normal(parsed):
                problems.append(f"{row} is not {expected}")
        elif not same(normal(document), normal(parsed)):
            problems.append(f"{row} is not {document!r}")
    return problems


def read_csv(path):
    """Rows as dicts of texts, by RFC 4180. Unlike the csv module, this tells an empty field (None) from `""`."""
    with open(path, encoding="utf-8", newline="") as file:
        text = file.read()
    rows, row, at = [], [], 0
    while at < len(text):
        if text[at] == '"':
            end = at + 1
            while text[end] != '"' or text[end + 1 : end + 2] == '"':
                end += 2 if text[end] == '"' else 1
            row.append(text[at + 1 : end].replace('""', '"'))
            at = end + 1
        else:
            end = min(i for i in (text.find(",", at), text.find("\r\n", at)) if i >= 0)
            row.append(text[at:end] or None)
            at = end
        if text[at] == "\r":
            rows.append(row)
            row, at = [], at + 2
        else:
            at += 1
    names = rows[0]
    assert len(set(name.lower() for name in names)) == len(names), f"two columns of one name: {names}"
    assert all(len(row) == len(names) for row in rows), "rows of different lengths"
    return [dict(zip(names, row)) for row in rows[1:]]


def compare_csv(collection, directory):
    rows = [row for path in sorted(glob.glob(f"{directory}/*.csv")) for row in read_csv(path)]
    documents = list(collection.find())
    raws = list(collection.with_options(CodecOptions(document_class=RawBSONDocument)).find())
    if len(documents) != len(rows):
        return [f"{len(documents)} documents, but {len(rows)} rows"]
    by_key = {}
    for row in rows:
        by_key[canonical_key(row["_id"])] = row
    problems = []
    for document, raw in zip(documents, raws):
        row = by_key.get(canonical_key(document["_id"])) or by_key.get(canonical_key(csv_text(document["_id"])))
        if row is None:
            problems.append(f"no row for _id {document['_id']!r}")
            continue
        problems += without_rescued(document, row["_rescued_data"], raw.raw)
        used = {"_rescued_data"}
        problems += [f"_id {document['_id']!r} {problem}" for problem in csv_differences(document, "", row, used)]
        for name, text in row.items():
            if text is not None and name not in used:
                problems.append(f"_id {document['_id']!r} has {name!r} = {text!r} from nowhere")
    return problems


def csv_differences(document, prefix, row, used):
    """What differs between a document and the columns that begin with `prefix`; adds the columns it has found to `used`."""
    problems = []
    for field, value in document.items():
        if value is ...:
            # Two fields of one name: the column has the first value, pymongo the other.
            used.add(field)
            continue
        path = prefix + field
        names = [n for n in row if n == path or (n.startswith(path or "_") and is_spelling(n, path, False))]
        match = [n for n in names if n not in used and csv_agrees(value, row[n])]
        if match:
            used.add(match[0])
        elif isinstance(value, dict) and all(row[n] is None for n in names):
            problems += csv_differences(value, f"{path}.", row, used)
        elif value is not None or any(row[n] is not None for n in names):
            problems.append(f"field {path!r}: {value!r} is {[row[n] for n in names]!r}")
    return problems


def csv_text(value):
    """The documented text of a value without parts, or None where it is Extended JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Binary):
        return str(value.as_uuid()) if value.subtype == 4 and len(value) == 16 else base64.b64encode(value).decode()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, (str, ObjectId, int, Int64)):
        return str(value)
    return None


def csv_agrees(value, text):
    if value is None or text is None:
        return value is None and text in (None, '{"$undefined":true}')
    if csv_text(value) == text:
        return True
    try:
        if isinstance(value, DatetimeMS) and int(value) == iso_to_millis(text):
            return True
        if isinstance(value, float) and (float(text) == value or value != value and float(text) != float(text)):
            return True
        if isinstance(value, (Decimal128, int, Int64)) and Decimal(text) == normal(value)[1]:
            return True
    except (ValueError, ArithmeticError):
        pass
    return same_as_json(normal(value), text)


def iso_to_millis(text):
    """Milliseconds since 1970 of a date of any year, by counting days: Python's own dates end with the year 9999."""
    import re

    match = re.fullmatch(r"([+-]?\d{4,})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{3})Z", text)
    if not match:
        raise ValueError(text)
    year, month, day, hours, minutes, seconds, millis = map(int, match.groups())
    # The calendar repeats after 400 years of 146,097 days.
    cycles, within = divmod(year, 400)
    days = datetime(within + 2000, month, day).toordinal() - datetime(1970, 1, 1).toordinal()
    days += (cycles - 5) * 146_097
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000 + millis


def main():
    reader, uri, database, name, directory = sys.argv[1:]
    collection = pymongo.MongoClient(uri)[database].get_collection(name, codec_options=OPTIONS)
    if reader.startswith("jsonl"):
        problems = compare_jsonl(collection, directory, "canonical" if "canonical" in reader else "relaxed")
    elif reader == "csv":
        problems = compare_csv(collection, directory)
    else:
        rows, _ = read(reader, directory, (database, name))
        problems = compare_rows(collection, rows, avro=reader == "avro")
    if problems:
        print(f"{len(problems)} differences, the first of them:")
        print("\n".join(problem[:600] for problem in problems[:8]))
        sys.exit(1)
    print(f"{collection.estimated_document_count()} documents agree")


try:
    main()
finally:
    if CLOSE_DOUBLES:
        # Sail's server would go on.
        traceback = sys.exc_info()[1]
        if traceback and not isinstance(traceback, SystemExit):
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1 if traceback else 0)
