"""What triggers.py has done to servers, each as a process of its own, so that its memory is nobody else's.

Usage: triggering.py URI DATABASE OPERATION ARGUMENTS…; prints one JSON value.
"""

import json
import sys
import time

from pymongo import MongoClient


def now(client, _):
    """The deployment's time, as a change stream can begin at it."""
    time_now = client.admin.command("ping")["operationTime"]
    return [time_now.time, time_now.inc + 1]


def insert(database, collection, count):
    """Small orders, a thousand at a time."""
    count = int(count)
    for start in range(0, count, 1000):
        database[collection].insert_many(
            [{"n": n, "customer": f"customer {n % 97}", "price": 1 + n % 50, "quantity": 1 + n % 7, "paid": n % 2 == 0,
              "note": "as ordered by telephone, to be delivered in the morning"}
             for n in range(start, min(start + 1000, count))])
    return count


def pace(database, collection, rate, seconds):
    """Single orders at a rate, each with its moment, and a last one that asks for the result."""
    rate, seconds = int(rate), int(seconds)
    begun = time.monotonic()
    for number in range(rate * seconds):
        wait = begun + number / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        database[collection].insert_one({"at": time.time() * 1000})
    time.sleep(1)
    database[collection].insert_one({"last": True})
    return rate * seconds


def ages(database):
    """What the function has measured."""
    until = time.monotonic() + 60
    while not (found := database["ages"].find_one()):
        if time.monotonic() > until:
            sys.exit("the function has not told what it measured")
        time.sleep(0.1)
    return found["ages"]


def client_of(endpoint):
    """A client of Kinesis."""
    import boto3
    return boto3.client("kinesis", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="bench",
                        aws_secret_access_key="bench")


def stream(_, endpoint, name):
    """A stream of four shards."""
    client_of(endpoint).create_stream(StreamName=name, ShardCount=4)
    return name


def put(_, endpoint, name, count):
    """Records of about the size of a change, as many at a time as may be."""
    kinesis, count = client_of(endpoint), int(count)
    data = json.dumps({"operationType": "insert", "fullDocument": {"note": "x" * 500}}).encode()
    begun = time.monotonic()
    for start in range(0, count, 500):
        kinesis.put_records(StreamName=name, Records=[
            {"Data": data, "PartitionKey": str(n)} for n in range(start, min(start + 500, count))])
    return {"records": count, "seconds": time.monotonic() - begun}


if __name__ == "__main__":
    uri, name, operation, *rest = sys.argv[1:]
    mongo = MongoClient(uri)
    if operation == "now":
        result = now(mongo, None)
    else:
        result = {"insert": insert, "pace": pace, "ages": ages, "stream": stream, "put": put}[operation](mongo[name], *rest)
    print(json.dumps(result))
