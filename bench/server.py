"""What the server knows about a collection, as one JSON object: documents, bytes of BSON, and the server's version.

Usage: server.py URI DATABASE COLLECTION
"""

import json
import sys

from pymongo import MongoClient

uri, database, collection = sys.argv[1:]
client = MongoClient(uri, serverSelectionTimeoutMS=5000)
stats = client[database].command("collStats", collection)
print(json.dumps({
    "documents": stats.get("count", 0),
    "bytes": stats.get("size", 0),
    "version": client.server_info()["version"],
}))
