"""Accepts the settings of OpenTelemetry's batch processor, which has nothing left to do here.

Upstream collects data in memory before it is sent. Here samples are on disk before they wait, and the exporter's
sender fills its requests from there: it waits a quarter of a second for more, and fills them as far as the receiver
takes them. So this processor is not even part of the pipeline that is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trunkline.component.settings import setting
from trunkline.quantities import Duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trunkline.component.contract import Consumer, Context

_ON_DISK: Final = "samples are on disk before they wait, and requests are filled from there"
_NO_CLIENTS: Final = "collected metrics have no client metadata"


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """Makes requests fuller; always done, by the sender of an exporter."""

    timeout: Duration = setting(default=0.2, doc="How long to wait for more.", ignored=_ON_DISK)
    send_batch_size: int = setting(default=8192, doc="Samples that are sent at once.", ignored=_ON_DISK)
    send_batch_max_size: int = setting(
        default=0, doc="Most samples of a batch; 0 for no limit.", ignored=_ON_DISK
    )
    metadata_keys: list[str] = setting(
        default_factory=list, doc="Keys of the client that tell batches apart.", ignored=_NO_CLIENTS
    )
    metadata_cardinality_limit: int = setting(
        default=1000, doc="Most combinations of these.", ignored=_NO_CLIENTS
    )

    def check(self) -> Iterator[tuple[str, str]]:
        if self.timeout < 0:
            yield "timeout", "timeout must be greater or equal to 0"
        for key in ("send_batch_size", "send_batch_max_size"):
            if getattr(self, key) < 0:
                yield key, "must not be negative"
        if 0 < self.send_batch_max_size < self.send_batch_size:
            yield "send_batch_max_size", "send_batch_max_size must be greater or equal to send_batch_size"

    def build(self, context: Context, downstream: Consumer) -> Consumer:
        del context
        return downstream
