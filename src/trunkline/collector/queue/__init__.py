"""What has been accepted and not yet delivered, on disk or in memory."""

from trunkline.collector.queue.chunk import Chunk, Lost, Queue
from trunkline.collector.queue.disk import DiskQueue
from trunkline.collector.queue.memory import MemoryQueue
from trunkline.collector.queue.segment import SEGMENT_BYTES

__all__ = ["SEGMENT_BYTES", "Chunk", "DiskQueue", "Lost", "MemoryQueue", "Queue"]
