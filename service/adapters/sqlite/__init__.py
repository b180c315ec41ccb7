"""The ports Table and Objects in a folder of this machine: SQLite, and files for large objects.

One thread has the connection and serves all calls. Calls that wait at the same time are one transaction, so
that they share one write to the disk. Batches, operations and events are stored as the items that DynamoDB
would get.
"""

from service.adapters.sqlite.errors import StoreError
from service.adapters.sqlite.store import Store

__all__ = ["Store", "StoreError"]
