"""The contender `pymongo`: a change stream of `watch()`, and a Python function for each event.

Usage: peer_watch.py URI DATABASE COLLECTION SECONDS ORDINAL EVENTS
Begins at a moment of the deployment's clock, and prints `events` and `seconds` as one JSON object.
"""

import json
import sys
import time

from bson.timestamp import Timestamp
from pymongo import MongoClient


def add_two_fields(event):
    """What the function of the trigger does, in Python."""
    document = event["fullDocument"]
    document["total"] = document["price"] * document["quantity"]
    document["seen"] = True
    return document


uri, database, collection = sys.argv[1:4]
since = Timestamp(int(sys.argv[4]), int(sys.argv[5]))
wanted = int(sys.argv[6])
client = MongoClient(uri)
begun = time.monotonic()
seen = 0
with client[database][collection].watch(start_at_operation_time=since) as stream:
    for event in stream:
        if event["operationType"] != "insert":
            continue
        add_two_fields(event)
        seen += 1
        if seen == wanted:
            break
print(json.dumps({"events": seen, "seconds": time.monotonic() - begun}))
