"""A small web shop, to have something to measure: `python -m trunkline.simulator.demo_application`.

It takes orders over HTTP and from customers of its own, whose number goes up and down, and handles them in a
worker thread by sorting, compressing and hashing: enough for its CPU and memory to move, and no more than a
few hundredths of a core. `/metrics` shows it, `/` places an order and answers when it is done.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import queue
import random
import signal
import threading
import time
import zlib
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from mmap import mmap
from typing import ClassVar, Final

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import choose_encoder

DEFAULT_PORT: Final = 8000
ORDERS_PER_SECOND: Final = 4.0
ORDERS_PERIOD_S: Final = 60.0
ARCHIVE_PERIOD_S: Final = 90.0
LARGEST_ARCHIVE_BYTES: Final = 8 * 1024 * 1024
LARGEST_BASKET: Final = 4000
ITEM_BYTES: Final = 64
REJECTED_SHARE: Final = 0.02

HTTP_REQUESTS = Counter("shop_http_requests", "HTTP requests answered.", ["path", "status"])
HTTP_DURATION = Histogram(
    "shop_http_request_duration_seconds", "Time from an HTTP request to its answer.", ["path"]
)
ORDERS = Counter("shop_orders", "Orders that are done with, by how they ended.", ["outcome"])
ORDER_ITEMS = Counter("shop_order_items", "Items in all orders that were shipped.")
ORDER_DURATION = Histogram(
    "shop_order_duration_seconds",
    "Time from taking an order to its end, waiting included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
ORDERS_WAITING = Gauge("shop_orders_waiting", "Orders that nobody has begun yet.")
WORKERS_BUSY = Gauge("shop_workers_busy", "Workers that are handling an order.")
ARCHIVE_BYTES = Gauge("shop_archive_bytes", "Size of the receipts kept in memory.")


@dataclass(frozen=True, slots=True)
class Order:
    """So many items, and a promise of the receipt's SHA-256 as hex, or None if the order is rejected."""

    item_count: int
    taken_at_s: float = field(default_factory=time.monotonic)
    receipt: Future[str | None] = field(default_factory=Future)


class Shop:
    """Customers who place orders, and a worker who handles them one by one."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[Order] = queue.Queue(maxsize=100)
        # Mapped, because memory freed on the heap seldom goes back to the system, where it would be seen.
        self._archive: deque[mmap] = deque()
        self._archive_bytes = 0
        self._closed = threading.Event()
        self._random = random.Random()  # noqa: S311 (chance, not secrecy)

    def open(self) -> None:
        """Start the customers and the worker; they end with the process."""
        ORDERS_WAITING.set_function(self._waiting.qsize)
        for outcome in ("shipped", "rejected", "refused"):
            ORDERS.labels(outcome)  # a counter that is there from the start shows its first increase
        for work in (self._customers, self._worker):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def close(self) -> None:
        self._closed.set()

    def place(self, order: Order) -> bool:
        """Take an order, unless too many are waiting."""
        try:
            self._waiting.put_nowait(order)
        except queue.Full:
            ORDERS.labels("refused").inc()
            return False
        return True

    def random_order(self) -> Order:
        return Order(item_count=self._random.randrange(LARGEST_BASKET))

    def _customers(self) -> None:
        while not self._closed.is_set():
            self.place(self.random_order())
            per_second = ORDERS_PER_SECOND * (0.1 + 0.9 * _tide(ORDERS_PERIOD_S))
            self._closed.wait(self._random.expovariate(per_second))

    def _worker(self) -> None:
        while not self._closed.is_set():
            order = self._waiting.get()
            with WORKERS_BUSY.track_inprogress():
                receipt = self._handle(order)
            ORDER_DURATION.observe(time.monotonic() - order.taken_at_s)
            order.receipt.set_result(receipt)

    def _handle(self, order: Order) -> str | None:
        if self._random.random() < REJECTED_SHARE:
            ORDERS.labels("rejected").inc()
            return None
        items = sorted(self._random.randbytes(ITEM_BYTES) for _ in range(order.item_count))
        packed = zlib.compress(b"".join(items))
        self._keep(packed)
        ORDERS.labels("shipped").inc()
        ORDER_ITEMS.inc(order.item_count)
        return hashlib.sha256(packed).hexdigest()

    def _keep(self, packed: bytes) -> None:
        """Archive a receipt, and burn the oldest until the archive is as large as it may be now."""
        receipt = mmap(-1, len(packed))
        receipt.write(packed)
        self._archive.append(receipt)
        self._archive_bytes += len(packed)
        while self._archive_bytes > LARGEST_ARCHIVE_BYTES * _tide(ARCHIVE_PERIOD_S) and self._archive:
            self._archive_bytes -= len(self._archive.popleft())
        ARCHIVE_BYTES.set(self._archive_bytes)


def _tide(period_s: float) -> float:
    """Between 0 and 1, up and down once in every period."""
    return 0.5 - 0.5 * math.cos(2 * math.pi * time.monotonic() / period_s)


class Handler(BaseHTTPRequestHandler):
    """Answers GET on `/` and `/metrics`."""

    protocol_version = "HTTP/1.1"
    timeout = 60  # of an idle connection, in seconds
    shop: ClassVar[Shop]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        known = path if path in ("/", "/metrics") else "other"
        with HTTP_DURATION.labels(known).time():
            status, kind, body = self._answer(path)
            HTTP_REQUESTS.labels(known, str(status.value)).inc()
            self._send(status, kind, body)

    def _answer(self, path: str) -> tuple[HTTPStatus, str, bytes]:
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            return HTTPStatus.OK, kind, encode(REGISTRY)
        if path == "/":
            status, text = self._place_order()
            return status, "text/plain; charset=utf-8", text.encode()
        return HTTPStatus.NOT_FOUND, "text/plain; charset=utf-8", b"There are / and /metrics.\n"

    def _place_order(self) -> tuple[HTTPStatus, str]:
        order = self.shop.random_order()
        if not self.shop.place(order):
            return HTTPStatus.SERVICE_UNAVAILABLE, "Too many orders are waiting; come back later.\n"
        receipt = order.receipt.result()
        return HTTPStatus.OK, f"{order.item_count} items, receipt {receipt}.\n" if receipt else "Rejected.\n"

    def _send(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        """Say nothing: the scrapes would fill the log."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


def serve(address: str, port: int) -> None:
    """Be open until SIGTERM or SIGINT."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    # A second series for every counter, which nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    Handler.shop = Shop()
    with Server((address, port), Handler) as server:
        Handler.shop.open()
        threading.Thread(target=server.serve_forever, name="server", daemon=True).start()
        print(f"the shop is open on {address}:{server.server_port}", flush=True)  # noqa: T201 (its log)
        ended.wait()
        Handler.shop.close()
        server.shutdown()
    print("the shop is closed", flush=True)  # noqa: T201


def main() -> None:
    """Read the command line; `PORT` and `BIND_ADDRESS` are the defaults of its options."""
    parser = argparse.ArgumentParser(description="A small web shop with Prometheus metrics.")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", DEFAULT_PORT)))
    parser.add_argument("--address", default=os.environ.get("BIND_ADDRESS", "0.0.0.0"))  # noqa: S104
    options = parser.parse_args()
    serve(options.address, options.port)


if __name__ == "__main__":
    main()
