"""Queue, Table, Objects, Clock and Fleet in memory, for simulation and fast tests.

They behave as the ports on AWS. Time passes only by the clock. Every operation first lets other tasks run,
as a call of a service does.
"""

from service.adapters.memory.clock import MemoryClock
from service.adapters.memory.fleet import MemoryFleet
from service.adapters.memory.objects import MemoryObjects, MemoryUpload, StoredObject
from service.adapters.memory.process_queue import ProcessQueue
from service.adapters.memory.queue import MemoryQueue
from service.adapters.memory.table import MemoryTable

__all__ = [
    "MemoryClock",
    "MemoryFleet",
    "MemoryObjects",
    "MemoryQueue",
    "MemoryTable",
    "MemoryUpload",
    "ProcessQueue",
    "StoredObject",
]
