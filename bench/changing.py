"""Changes collections and tables for changes.py. Prints one JSON value.

Usage: changing.py URI DATABASE now
       changing.py URI DATABASE update COLLECTION COUNT
       changing.py URI DATABASE merge COLLECTION TABLE COPY COUNT
"""

import json
import random
import shutil
import sys
import time

from pymongo import MongoClient, UpdateOne

uri, database, operation, *rest = sys.argv[1:]
client = MongoClient(uri, serverSelectionTimeoutMS=5000)


def now():
    """The deployment's present, as seconds and ordinal."""
    stamp = client.admin.command("ping")["operationTime"]
    return [stamp.time, stamp.inc]


def keys(collection, count):
    """The keys of random documents, each once."""
    sampled = client[database][collection].aggregate([{"$sample": {"size": 2 * count}}, {"$project": {"_id": 1}}])
    found = list(dict.fromkeys(document["_id"] for document in sampled))
    random.shuffle(found)
    return found[:count]


def update(collection, count):
    """Updates random documents one by one, in bulks."""
    target, chosen = client[database][collection], keys(collection, int(count))
    for start in range(0, len(chosen), 1000):
        bulk = [UpdateOne({"_id": key}, {"$set": {"int32": random.randrange(1 << 30), "changed": start}})
                for key in chosen[start:start + 1000]]
        target.bulk_write(bulk, ordered=False)
    return {"updated": len(chosen)}


def merge(collection, table, copy, count):
    """deltalake's merge of the documents' new rows into a copy of the table without deletion vectors."""
    from deltalake import DeltaTable, QueryBuilder, write_deltalake

    query = QueryBuilder().register("t", DeltaTable(table))
    write_deltalake(copy, query.execute("SELECT * FROM t"))
    chosen = ", ".join(f"'{key}'" for key in keys(collection, int(count)))
    source = query.execute(f"SELECT * FROM t WHERE _id IN ({chosen})").read_all()
    started = time.monotonic()
    (DeltaTable(copy).merge(source, "t._id = s._id", source_alias="s", target_alias="t")
     .when_matched_update_all().when_not_matched_insert_all().execute())
    seconds = time.monotonic() - started
    shutil.rmtree(copy)
    return {"seconds": seconds, "rows": source.num_rows}


print(json.dumps({"now": now, "update": update, "merge": merge}[operation](*rest)))
