"""What the receiver gets for a series: its final labels, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline.component.translation import is_created

if TYPE_CHECKING:
    from trunkline.exporters.prometheusremotewrite.config import RemoteWriteConfig
    from trunkline.model import Labels, Series


def final_labels(series: Series, config: RemoteWriteConfig) -> Labels | None:
    """Scraped series as scraped, others translated; None for what the settings leave out.

    Raises ValueError for a name of which nothing can be used.
    """
    if config.translate_scraped_names and not config.export_created_metric.enabled and is_created(series):
        return None
    return config.translation.labels(series)
