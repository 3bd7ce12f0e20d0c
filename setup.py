"""The compiled kernel, where there are a C compiler, Python's headers and Cython; everything else is in pyproject.toml.

`optional` makes an installation without them work, slower: `trunkline.wire.kernel` then takes the pure-Python twin.
"""

from pathlib import Path

from setuptools import Extension, setup

WIRE = Path("src/trunkline/wire")

kernel = Extension(
    "trunkline.wire._kernel",
    [str(WIRE / "_kernel.pyx")],
    depends=[str(header) for header in sorted(WIRE.glob("_*.h"))],
    extra_compile_args=["-O3", "-g0"],
    optional=True,
)

setup(ext_modules=[kernel])
