"""Credentials of a profile in AWS's shared files, as AWS's command line and SDKs read them.

Source: AWS SDKs and Tools Reference Guide, "Shared config and credentials files".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from trunkline.aws.clock import ServerClock
from trunkline.aws.keys import Credentials
from trunkline.aws.providers import FALLBACK_REGION, Provider, from_document, web_identity
from trunkline.aws.sts import DEFAULT_DURATION_S, Sts, default_session_name
from trunkline.errors import CredentialsError
from trunkline.net.client import Client

_HOP = "profile"
_PROCESS_TIMEOUT_S = 60.0
_MARKS = ("role_arn", "aws_access_key_id", "aws_secret_access_key", "credential_process")
Settings = Mapping[str, str]


def _path(environment: Mapping[str, str], variable: str, name: str) -> Path | None:
    """The file that `variable` names, else `~/.aws/<name>`; None when there is no home."""
    home = environment.get("HOME", "")
    own = environment.get(variable)
    if own:
        return Path(home + own[1:] if own.startswith("~/") else own)
    return Path(home, ".aws", name) if home else None


def _sections(path: Path | None) -> dict[str, dict[str, str]]:
    if path is None or not path.is_file():
        return {}
    from configparser import Error, RawConfigParser  # noqa: PLC0415 (only where there is such a file)

    parser = RawConfigParser(default_section="", strict=False, empty_lines_in_values=False, delimiters=("=",))
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
    except (OSError, ValueError, Error) as error:
        raise CredentialsError(f"cannot read {path}: {str(error).splitlines()[0]}", hop=_HOP) from None
    return {name: dict(parser.items(name)) for name in parser.sections()}


def read_profiles(environment: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The settings of every profile; what the credentials file says comes before the config file.

    Raises CredentialsError for a file that cannot be read.
    """
    profiles: dict[str, dict[str, str]] = {}
    for section, settings in _sections(_path(environment, "AWS_CONFIG_FILE", "config")).items():
        kind, _, name = section.partition(" ")
        if section == "default" or kind == "profile":
            profiles.setdefault(name.strip().strip("\"'") or section, {}).update(settings)
    path = _path(environment, "AWS_SHARED_CREDENTIALS_FILE", "credentials")
    for section, settings in _sections(path).items():
        profiles.setdefault(section, {}).update(settings)
    return profiles


class ProfileProvider:
    """The profile `AWS_PROFILE` names, or `default`.

    `sources` are the providers that `credential_source` can name, by that name.
    """

    hop: ClassVar[str] = _HOP

    def __init__(
        self,
        environment: Mapping[str, str],
        client: Client,
        region: str,
        sources: Mapping[str, Provider],
        *,
        process_timeout_s: float = _PROCESS_TIMEOUT_S,
        clock: ServerClock | None = None,
    ) -> None:
        self._environment = environment
        self._client = client
        self._region = region
        self._sources = sources
        self._process_timeout_s = process_timeout_s
        self._clock = clock
        self._name = environment.get("AWS_PROFILE") or "default"

    def absent(self) -> str | None:
        try:
            profiles = read_profiles(self._environment)
        except CredentialsError:
            return None  # `fetch` says what is wrong with the file
        named = bool(self._environment.get("AWS_PROFILE"))
        if self._name not in profiles:
            return (
                None
                if named
                else "there is no profile default in the shared files, and AWS_PROFILE is not set"
            )
        settings = profiles[self._name]
        held = any(key in _MARKS or key.startswith("sso_") for key in settings)
        return None if held else f"profile {self._name} holds no credentials"

    async def fetch(self) -> Credentials:
        """Fresh credentials of the profile; the files are read anew each time."""
        return await self._credentials(self._name, read_profiles(self._environment), ())

    async def _credentials(
        self, name: str, profiles: Mapping[str, Settings], through: tuple[str, ...]
    ) -> Credentials:
        if name not in profiles:
            known = ", ".join(sorted(profiles)) or "none"
            raise self._error(f"there is no profile {name!r} in the shared files; they have: {known}")
        settings = profiles[name]
        own_source = bool(through) and through[-1] == name
        if "role_arn" in settings and not own_source:
            return await self._role(name, settings, profiles, through)
        if "aws_access_key_id" in settings or "aws_secret_access_key" in settings:
            return self._static(name, settings)
        if "credential_process" in settings:
            return await self._process(name, settings["credential_process"])
        if any(key.startswith("sso_") for key in settings):
            raise self._error(
                f"profile {name} signs in through IAM Identity Center (sso_ keys), which Trunkline does not do. Make "
                f"another profile with `credential_process = aws configure export-credentials --profile {name}` and "
                "name that one"
            )
        raise self._error(f"profile {name} holds no credentials (nor a role with source_profile)")

    def _error(self, message: str) -> CredentialsError:
        return CredentialsError(message, hop=_HOP)

    def _static(self, name: str, settings: Settings) -> Credentials:
        for key in ("aws_access_key_id", "aws_secret_access_key"):
            if not settings.get(key):
                raise self._error(f"profile {name} lacks {key}; it needs both halves of the access key")
        return Credentials(
            settings["aws_access_key_id"],
            settings["aws_secret_access_key"],
            settings.get("aws_session_token") or None,
            source=f"profile {name}",
        )

    async def _role(
        self, name: str, settings: Settings, profiles: Mapping[str, Settings], through: tuple[str, ...]
    ) -> Credentials:
        if name in through:
            raise self._error(
                f"the profiles {' → '.join((*through, name))} name one another as source_profile"
            )
        if "mfa_serial" in settings:
            raise self._error(
                f"profile {name} asks for a code of an MFA device (mfa_serial), which a collector cannot type; use "
                "a role without it"
            )
        region = settings.get("region") or self._region or FALLBACK_REGION
        session_name = settings.get("role_session_name") or default_session_name()
        token_file = settings.get("web_identity_token_file")
        if token_file:
            return await web_identity(
                self._client,
                self._environment,
                region,
                settings["role_arn"],
                token_file,
                session_name,
                self._clock,
            )
        base = await self._base(name, settings, profiles, through)
        sts = Sts(self._client, region=region, environment=self._environment, clock=self._clock)
        return await sts.assume_role(
            base,
            settings["role_arn"],
            session_name=session_name,
            external_id=settings.get("external_id") or None,
            duration_s=self._duration_s(name, settings),
        )

    def _duration_s(self, name: str, settings: Settings) -> int:
        text = settings.get("duration_seconds", str(DEFAULT_DURATION_S))
        if not text.isdecimal():
            raise self._error(f"profile {name}: duration_seconds {text!r} is not a number of seconds")
        return int(text)

    async def _base(
        self, name: str, settings: Settings, profiles: Mapping[str, Settings], through: tuple[str, ...]
    ) -> Credentials:
        """The credentials the role is assumed with."""
        if "source_profile" in settings:
            return await self._credentials(settings["source_profile"], profiles, (*through, name))
        source = settings.get("credential_source", "")
        if source not in self._sources:
            known = ", ".join(self._sources)
            raise self._error(
                f"profile {name} has a role_arn but no source_profile, and its credential_source {source!r} is not "
                f"one of {known}"
            )
        provider = self._sources[source]
        reason = provider.absent()
        if reason is not None:
            raise self._error(f"profile {name} names the credential_source {source}, but {reason}")
        return await provider.fetch()

    async def _process(self, name: str, command: str) -> Credentials:
        """What the command of `credential_process` prints."""
        import shlex  # noqa: PLC0415 (only where a profile has such a command)

        source = f"the credential_process of profile {name}"
        try:
            process = await asyncio.create_subprocess_exec(
                *shlex.split(command),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=dict(self._environment),
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise self._error(f"{source} cannot be run: {why}") from None
        try:
            async with asyncio.timeout(self._process_timeout_s):
                output, errors = await process.communicate()
        except TimeoutError:
            raise self._error(f"{source} did not end within {self._process_timeout_s:g}s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = errors[:300].decode("utf-8", "replace").strip()
            raise self._error(f"{source} ended with status {process.returncode}: {said}")
        return self._printed(source, output)

    def _printed(self, source: str, output: bytes) -> Credentials:
        try:
            document = json.loads(output)
        except ValueError:
            raise self._error(f"{source} printed something that is not JSON") from None
        if not isinstance(document, dict) or document.get("Version") != 1:
            raise self._error(f'{source} must print a JSON object with "Version": 1')
        return from_document(document, "SessionToken", hop=_HOP, source=source)
