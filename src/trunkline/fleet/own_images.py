"""The fleet's own images during a deployment: built here at most once, and pushed wherever they are missing.

What a repository has under Trunkline's version is used as it is, unless something about the images was chosen (a
base, a wheel, a program): then the tag is made of the contents, and what has other contents is built anew.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import BoundedSemaphore, Lock
from typing import Any, Final, Self
from urllib.parse import urlsplit

from trunkline.errors import FleetError, UsageError
from trunkline.fleet.images import ImageKind, push_image
from trunkline.fleet.images.build import Built, LaidOut, Recipe, build_image, lay_out_image
from trunkline.fleet.images.context import Wheel, make_wheel, source_tree
from trunkline.fleet.images.registry import Registry, ecr_registry, push_built
from trunkline.fleet.images.tools import NAMES, Tool, find_tool
from trunkline.fleet.inputs import find_image

_PUSHES_AT_ONCE: Final = 4


def is_pulled_from(ecr: Any) -> bool:
    """Whether it is AWS's own registry, from which tasks really pull."""
    host = urlsplit(ecr.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


class OwnImages:
    """Builds and pushes; `push` is a `PushImage`, for any number of threads. Use it as a context manager.

    `tool` is the program's name, or empty for the first that is there; `say` is told what is begun. `is_real` says of
    a client of ECR whether anything is pulled from there, and `registry` signs in. Raises `UsageError` for a program
    that is not known.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        recipe: Recipe = Recipe(),  # noqa: B008 (it is frozen)
        tool: str = "",
        *,
        is_real: Callable[[Any], bool] = is_pulled_from,
        registry: Callable[[Any], Registry] = ecr_registry,
    ) -> None:
        if tool and tool not in NAMES:
            raise UsageError(f"--with {tool}: Trunkline knows {', '.join(NAMES)}")
        self.is_real = is_real
        self._say = say
        self._recipe = recipe
        self._wanted = tool
        self._is_chosen = bool(tool) or recipe != Recipe()
        self._registry = registry
        self._stack = ExitStack()
        self._lock = Lock()
        self._turns = BoundedSemaphore(_PUSHES_AT_ONCE)
        self._tool: Tool | None = None
        self._wheel: Wheel | None = None
        self._folders: dict[ImageKind, LaidOut] = {}
        self._built: dict[ImageKind, Built] = {}
        self._failed: FleetError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def there(self, ecr: Any, repository: str, tag: str) -> str:
        """The digest of an image that will do as it is; empty when there is none, or what is chosen decides."""
        return "" if self._is_chosen else find_image(ecr, repository, tag)

    def problem(self) -> str:
        """Why no image can be built here; empty when nothing is known to be in the way."""
        with self._lock:
            try:
                self._tool = self._tool or find_tool(self._wanted)
                if self._recipe.wheel:
                    Wheel.read(self._recipe.wheel)
                else:
                    source_tree()
            except (FleetError, UsageError) as error:
                return str(error)
        return ""

    def push(self, ecr: Any, repository: str, tag: str, kind: ImageKind) -> str:
        """The digest of the image in a repository, after it has been brought there if need be. Raises `FleetError`."""
        if not self.is_real(ecr):
            return find_image(ecr, repository, tag) or push_image(ecr, repository, tag, kind)
        digest = self.there(ecr, repository, tag)
        if digest:
            return digest
        laid_out = self._laid_out(kind, tag)
        digest = find_image(ecr, repository, laid_out.tag)
        if digest:
            return digest
        built = self._build(laid_out)
        with self._turns:
            self._say(f"pushing the image of the {kind} to {repository} of {ecr.meta.region_name}")
            return push_built(built, self._registry(ecr), repository).digest

    def _laid_out(self, kind: ImageKind, tag: str) -> LaidOut:
        """Once; its tag tells whether it has been pushed before."""
        with self._once(kind):
            if kind not in self._folders:
                self._folders[kind] = self._lay_out(kind, tag)
            return self._folders[kind]

    def _build(self, laid_out: LaidOut) -> Built:
        """Once."""
        with self._once(laid_out.kind):
            if laid_out.kind not in self._built:
                self._tool = self._tool or find_tool(self._wanted)
                # Only podman and buildah can be signed in to several registries at once without a file they share.
                if not self._tool.kind.is_oci:
                    self._turns = BoundedSemaphore(1)
                self._say(f"building the image of the {laid_out.kind} with {self._tool.kind.name}")
                self._built[laid_out.kind] = build_image(laid_out, self._tool)
            return self._built[laid_out.kind]

    @contextmanager
    def _once(self, kind: ImageKind) -> Iterator[None]:
        """One at a time; what failed once is not tried again for every account."""
        with self._lock:
            if self._failed:
                raise self._failed
            try:
                yield
            except (FleetError, UsageError) as error:
                self._failed = FleetError(f"the image of the {kind} could not be built: {error}")
                raise self._failed from error

    def _lay_out(self, kind: ImageKind, tag: str) -> LaidOut:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="trunkline-images-")))
        if self._wheel is None:
            given = self._recipe.wheel
            self._wheel = Wheel.read(given) if given else make_wheel(folder / "wheel")
        return lay_out_image(folder / kind, kind, self._recipe, self._wheel, "" if self._is_chosen else tag)
