"""Queue, Table, Objects and Clock in memory: the same behaviour as on AWS, for simulation and fast tests.

Time is the clock's alone. Every operation first lets other tasks run, as a call to a service would.
"""

from service.adapters.memory.clock import MemoryClock
from service.adapters.memory.objects import MemoryObjects, MemoryUpload, StoredObject
from service.adapters.memory.queue import MemoryQueue
from service.adapters.memory.table import MemoryTable

__all__ = ["MemoryClock", "MemoryObjects", "MemoryQueue", "MemoryTable", "MemoryUpload", "StoredObject"]
