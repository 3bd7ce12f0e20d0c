"""What the ECS agent does for tasks with AWS: sessions of their roles, pulling images, delivering logs.

Everything goes through the front door, signed as the role that does it on Fargate: the execution role.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from trunkline.aws import sigv4
from trunkline.aws.keys import Credentials
from trunkline.errors import FetchError, SimulatorError
from trunkline.net.client import Client
from trunkline.net.message import Request
from trunkline.simulator.frontdoor.server import FrontDoor
from trunkline.simulator.tasks.images import Image, ImageReference
from trunkline.simulator.tasks.logs import LogStream
from trunkline.simulator.tasks.runner import TaskRunner
from trunkline.simulator.tasks.state import TaskState
from trunkline.simulator.tasks.task import Session

log = logging.getLogger(__name__)

_PYTHON: Final = (sys.executable, "-m")
_TRUNKLINE: Final = (*_PYTHON, "trunkline")
_TITLE: Final = "org.opencontainers.image.title"
_ECR: Final = ".dkr.ecr."
_TIMEOUT_S: Final = 15.0
_RENEW_BEFORE_S: Final = 600.0
STREAM_CHARACTERS: Final = 4_000_000
"""What a stream of CloudWatch Logs holds before it begins anew; the files in the state folder hold twice as much."""
_BATCH_BYTES: Final = 900_000  # PutLogEvents takes 1,048,576, and counts 26 for every event

PROGRAMS: Final[Mapping[str, Image]] = {
    "trunkline-collector": Image(
        entry_point=[*_TRUNKLINE, "collector", "run"],
        data_dir="/var/lib/trunkline",
        addresses=("TRUNKLINE_METRICS_ADDRESS", "TRUNKLINE_HEALTH_ADDRESS"),
        programs={"trunkline": _TRUNKLINE, "/trunkline": _TRUNKLINE},
    ),
    "trunkline-demo-application": Image(entry_point=[*_PYTHON, "trunkline.simulator.demo_application"]),
}
"""What the manifest of an image calls itself → the program on this computer that stands for it."""


class Refused(SimulatorError):  # noqa: N818 (it is AWS that refuses)
    """AWS's refusal of a call; `code` is its name for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Agent:
    """Serves all tasks of a simulator. `images` fills with what has been pulled.

    `runner` is given once it exists, for the tasks it knows.
    """

    def __init__(self, front_door: FrontDoor) -> None:
        self.images: dict[str, Image] = {}
        self.runner: TaskRunner | None = None
        self._front_door = front_door
        self._client = Client()
        self._log_sessions: dict[str, Session] = {}
        self._delivered: Counter[LogStream] = Counter()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def issue(self, role_arn: str, session_name: str) -> Session:
        """A session of a task's role; the session is named after the task. Raises AccessDeniedError."""
        region = self._task(session_name).service.region
        made = await self._front_door.issue_task_session(role_arn, session_name, region)
        return {
            "AccessKeyId": made.access_key_id,
            "SecretAccessKey": made.secret_access_key,
            "Token": made.token,
            "Expiration": made.expiration,
        }

    async def pull(self, image: str, session: Session | None) -> str | None:
        """Read an image's manifest from ECR as the execution role, and note the program it names.

        An image of another registry is left to the runner. Raises SimulatorError with ECR's words.
        """
        reference = ImageReference.parse(image)
        account, found, rest = reference.registry.partition(_ECR)
        if not found:
            return None
        if session is None:
            raise SimulatorError(
                "pull access denied: no execution role, which has to allow ecr:BatchGetImage"
            )
        region = rest.partition(".")[0]
        await self._ecr(session, region, "GetAuthorizationToken", {})
        wanted = (
            {"imageDigest": reference.digest} if reference.digest else {"imageTag": reference.tag or "latest"}
        )
        asked = {"registryId": account, "repositoryName": reference.repository, "imageIds": [wanted]}
        answer = await self._ecr(session, region, "BatchGetImage", asked)
        if not answer.get("images"):
            raise SimulatorError(f"{image}: not found")
        self.images[reference.repository] = _program(image, answer["images"][0])
        return str(answer["images"][0]["imageId"]["imageDigest"])

    async def put_logs(self, stream: LogStream, lines: Sequence[tuple[int, str]]) -> None:
        """Deliver lines as the execution role of the task that printed them; no lines: make the stream."""
        role = self._task_of(stream).definition.execution_role_arn
        if not role:
            raise SimulatorError("the task has no execution role, which has to allow logs:CreateLogStream")
        place = {"logGroupName": stream.group, "logStreamName": stream.stream}
        if not lines:
            await self._create_stream(role, stream, place)
        for batch in _batches(lines):
            await self._logs(role, stream, "PutLogEvents", {**place, "logEvents": batch})
            await self._keep_small(stream, sum(len(event["message"]) for event in batch))

    async def _keep_small(self, stream: LogStream, characters: int) -> None:
        """The emulator keeps all it is given in memory, for ever: past a limit, a stream begins anew."""
        self._delivered[stream] += characters
        if self._delivered[stream] > STREAM_CHARACTERS:
            self._delivered[stream] = 0
            for operation in ("DeleteLogStream", "CreateLogStream"):
                await self._front_door.ask(
                    stream.account,
                    stream.region,
                    "logs",
                    operation,
                    logGroupName=stream.group,
                    logStreamName=stream.stream,
                )

    async def _create_stream(self, role: str, stream: LogStream, place: Mapping[str, str]) -> None:
        try:
            await self._logs(role, stream, "CreateLogStream", place)
        except Refused as refused:
            if refused.code != "ResourceAlreadyExistsException":
                raise

    async def _logs(self, role: str, stream: LogStream, operation: str, asked: Mapping[str, Any]) -> None:
        session = await self._log_session(role, stream)
        await self._call(session, stream.region, "logs", f"Logs_20140328.{operation}", asked)

    async def _log_session(self, role: str, stream: LogStream) -> Session:
        known = self._log_sessions.get(role)
        if known is None or _ends_in_s(known) < _RENEW_BEFORE_S:
            known = self._log_sessions[role] = await self.issue(role, self._task_of(stream).id)
        return known

    async def _ecr(self, session: Session, region: str, operation: str, asked: Mapping[str, Any]) -> Any:
        return await self._call(
            session, region, "ecr", f"AmazonEC2ContainerRegistry_V20150921.{operation}", asked
        )

    async def _call(
        self, session: Session, region: str, service: str, target: str, asked: Mapping[str, Any]
    ) -> dict[str, Any]:
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
        request = Request("POST", f"{self._front_door.url}/", headers, json.dumps(asked).encode())
        key = Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["Token"])
        signed = sigv4.sign(request, key, region=region, service=service, at=datetime.now(UTC))
        try:
            response = await self._client.exchange(signed, timeout_s=_TIMEOUT_S)
        except FetchError as error:
            raise SimulatorError(f"{service} did not answer: {error}") from error
        document: dict[str, Any] = json.loads(response.body or b"{}")
        if response.status != 200:
            code = str(document.get("__type", response.status)).rpartition("#")[2]
            if code in {"ExpiredTokenException", "UnrecognizedClientException"}:
                self._log_sessions.clear()
            raise Refused(
                code, str(document.get("message") or document.get("Message") or response.status_line)
            )
        return document

    def _task(self, task_id: str) -> TaskState:
        assert self.runner is not None
        for task in self.runner.tasks:
            if task.id == task_id:
                return task
        raise SimulatorError(f"there is no task {task_id}")

    def _task_of(self, stream: LogStream) -> TaskState:
        """A stream is named after its task: `prefix/container/<id>`, or `<id>-<number>`."""
        return self._task(stream.stream.rpartition("/")[2].partition("-")[0])


def _ends_in_s(session: Session) -> float:
    return datetime.fromisoformat(str(session["Expiration"])).timestamp() - time.time()


def _program(image: str, found: Mapping[str, Any]) -> Image:
    """The program an image's manifest names in its title."""
    manifest = json.loads(found.get("imageManifest") or "{}")
    title = (manifest.get("annotations") or {}).get(_TITLE, "")
    if title not in PROGRAMS:
        raise SimulatorError(
            f"the simulator has no program for {image}: its manifest's annotation {_TITLE} says {title!r}, and "
            f"the simulator knows {', '.join(PROGRAMS)}"
        )
    return PROGRAMS[title]


def _batches(lines: Sequence[tuple[int, str]]) -> list[list[dict[str, Any]]]:
    """Lines as the API takes them: none empty, not too many bytes at once."""
    batches: list[list[dict[str, Any]]] = []
    left = 0
    for time_ms, line in lines:
        if not line:
            continue
        size = len(line.encode()) + 26
        if size > left:
            batches.append([])
            left = _BATCH_BYTES
        batches[-1].append({"timestamp": time_ms, "message": line})
        left -= size
    return batches
