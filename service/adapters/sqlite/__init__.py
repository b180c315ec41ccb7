"""The ports Table and Objects in a folder of this machine: SQLite, and files for large objects.

Calls of one moment share a transaction, and those that wait for the disk share one write to it. Batches,
operations and events are stored as the items that DynamoDB would get.
"""

from service.adapters.sqlite.errors import StoreError
from service.adapters.sqlite.store import Store

__all__ = ["Store", "StoreError"]
