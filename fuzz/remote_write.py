"""Anything at all as a write request: a WireError, or a request that is the same after writing and reading it again."""

from __future__ import annotations

import contextlib

from fuzz.kernels import Kernel
from trunkline.errors import WireError
from trunkline.wire.remote_write import (
    TimeSeries,
    WriteRequest,
    decode_write_request,
    encode_labels,
    encode_metadata,
    encode_series,
    encode_write_request,
    split_labels,
)


def check(data: bytes, kernel: Kernel) -> None:
    del kernel  # both use this decoder
    with contextlib.suppress(WireError):
        split_labels(data)
    try:
        request = decode_write_request(data)
    except WireError:
        return
    for series in request.series:
        series.histograms.clear()  # read as they are, never written
    assert repr(decode_write_request(_encoded(request))) == repr(request)  # as text a NaN is equal to itself


def _encoded(request: WriteRequest) -> bytes:
    return encode_write_request(map(_series, request.series), map(encode_metadata, request.metadata))


def _series(series: TimeSeries) -> bytes:
    samples = [(one.value, one.timestamp_ms) for one in series.samples]
    return encode_series(encode_labels(series.labels), samples, series.exemplars)
