"""Images: what a container runs when its image is a program on this computer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from trunkline.errors import SimulatorError


@dataclass(frozen=True, slots=True)
class Image:
    """A local program in place of an image.

    `entry_point` is its command line, to which a container's `command` (or else the image's) is appended;
    `environment` what the image would set. `data_dir` is the path the image declares as a volume: the folder that
    stands for it is told in `TRUNKLINE_DATA_DIR`. `programs` stands for files of the image: when the first word of an
    entry point or a health check is a key, it is replaced by these words (`/trunkline` → `python -m trunkline`).
    `addresses` are variables that say where the program listens for itself alone; where tasks have no namespaces, each
    gets `127.0.0.1` and a port of its own.
    """

    entry_point: Sequence[str]
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    data_dir: str = ""
    addresses: Sequence[str] = ()
    programs: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def resolve(self, argv: Sequence[str]) -> list[str]:
        """A command line of the image as one of this computer."""
        return [*self.programs.get(argv[0], argv[:1]), *argv[1:]] if argv else []


Images = Mapping[str, Image]
"""Repository name, as in ECR (`trunkline/collector`) → what runs."""


@dataclass(frozen=True, slots=True)
class ImageReference:
    """`registry/repository:tag@digest`; `registry` is empty for Docker Hub's short names."""

    registry: str
    repository: str
    tag: str
    digest: str

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        name, _, digest = text.partition("@")
        head, slash, last = name.rpartition("/")
        last, _, tag = last.partition(":")
        path = head + slash + last
        first, slash, rest = path.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost"):
            return cls(first, rest, tag, digest)
        return cls("", path, tag, digest)

    @property
    def stated_digest(self) -> str:
        """The digest in the reference, or one made from its text, when the registry does not tell."""
        return self.digest or f"sha256:{sha256(str(self).encode()).hexdigest()}"


def find_image(images: Images, text: str) -> Image:
    """The program for an image reference; raises SimulatorError in the container runtime's words."""
    try:
        return images[ImageReference.parse(text).repository]
    except KeyError:
        raise SimulatorError(f"{text}: not found") from None
