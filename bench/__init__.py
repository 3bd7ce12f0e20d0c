"""What collectors cost: one load, one receiver, every collector in turn. Run with `make bench`.

It measures and never judges: no figure makes it fail. `docs/performance.md` shows what it found.
"""
