"""What a request to AWS is signed with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key; neither its secret nor its session token appears in `repr`.

    `expires_at` is in seconds since the epoch, None for keys without an end. `source` tells people where the key
    comes from, such as `environment` or `assumed role arn:…`.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    source: str = ""
