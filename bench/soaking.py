"""Writes and looks for soak.py. Prints one JSON value.

Usage: soaking.py URI DATABASE fill COUNT COLLECTION…
       soaking.py URI DATABASE write RATE SECONDS COUNT COLLECTION…
       soaking.py files TABLE…
"""

import json
import random
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

# How often a bulk is written: often enough that changes come steadily, seldom enough that the server is not kept busy
# by requests.
TICK = 0.1
# Of a hundred changes.
INSERTS, UPDATES, REPLACES = 25, 45, 15


def document(key):
    """What an application may write: numbers, texts, a date, an object and a list."""
    return {"_id": key, "n": random.randrange(1 << 30), "amount": random.random() * 1000,
            "text": f"{random.getrandbits(400):0100x}", "at": datetime.now(timezone.utc),
            "customer": {"name": f"customer {key % 1000}", "city": f"city {key % 50}"},
            "items": [{"sku": f"s{random.randrange(500)}", "count": random.randrange(1, 9)} for _ in range(3)]}


class Keys:
    """The keys of one collection: a random one in no time, and one less in no time."""

    def __init__(self, count):
        self.keys = list(range(count))
        self.next = count

    def insert(self):
        self.keys.append(self.next)
        self.next += 1
        return self.keys[-1]

    def delete(self):
        place = random.randrange(len(self.keys))
        self.keys[place], self.keys[-1] = self.keys[-1], self.keys[place]
        return self.keys.pop()

    def any(self):
        return random.choice(self.keys)


def fill(database, count, *collections):
    """Begins the collections anew."""
    for name in collections:
        database[name].drop()
        for start in range(0, count, 5000):
            keys = range(start, min(start + 5000, count))
            database[name].insert_many([document(key) for key in keys], ordered=False)
    return {"documents": count * len(collections)}


def operation(keys):
    """One random change, by the driver's own name for it."""
    from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne

    chance = random.randrange(100)
    if chance < INSERTS or not keys.keys:
        return InsertOne(document(keys.insert()))
    if chance < INSERTS + UPDATES:
        change = {"$set": {"n": random.randrange(1 << 30), "at": datetime.now(timezone.utc)}, "$inc": {"changes": 1}}
        return UpdateOne({"_id": keys.any()}, change)
    if chance < INSERTS + UPDATES + REPLACES:
        return ReplaceOne({"_id": (key := keys.any())}, document(key))
    return DeleteOne({"_id": keys.delete()})


def write(database, rate, seconds, count, *collections):
    """Changes at a steady rate; answers how many the server has made of each collection, and at which rate."""
    keys = {name: Keys(count) for name in collections}
    made = dict.fromkeys(collections, 0)
    started = time.monotonic()
    asked, tick = 0, 0
    while (now := time.monotonic() - started) < seconds:
        # What a tick came too late for is made up for.
        bulks = {name: [] for name in collections}
        for _ in range(int(now * rate) - asked):
            name = random.choice(collections)
            bulks[name].append(operation(keys[name]))
            asked += 1
        for name, bulk in bulks.items():
            if bulk:
                result = database[name].bulk_write(bulk, ordered=True)
                made[name] += result.inserted_count + result.modified_count + result.deleted_count
        tick += 1
        time.sleep(max(0, started + tick * TICK - time.monotonic()))
    elapsed = time.monotonic() - started
    return {"changes": made, "rate": sum(made.values()) / elapsed}


def files(*tables):
    """For each table its live data files, all files of its log, and the commits behind its last checkpoint."""
    from deltalake import DeltaTable

    def of(table):
        log = Path(table) / "_delta_log"
        hint = log / "_last_checkpoint"
        checkpoint = json.loads(hint.read_text())["version"] if hint.exists() else -1
        commits = sum(1 for file in log.glob("*.json") if int(file.stem) > checkpoint)
        return {"live": len(DeltaTable(table).file_uris()), "log": sum(1 for _ in log.iterdir()), "commits": commits}

    return [of(table) for table in tables]


def main():
    if sys.argv[1] == "files":
        return files(*sys.argv[2:])
    from pymongo import MongoClient

    uri, name, what, *rest = sys.argv[1:]
    database = MongoClient(uri, serverSelectionTimeoutMS=5000)[name]
    if what == "fill":
        return fill(database, int(rest[0]), *rest[1:])
    return write(database, float(rest[0]), float(rest[1]), int(rest[2]), *rest[3:])


print(json.dumps(main()))
