"""What is lost when things go wrong: real collectors, a fault injected, every sample reconciled. Run with `make faults`.

Targets serve series whose value is the number of the scrape, and remember what they served; a strict endpoint keeps
what it stored. What was served and is not stored must be what the collector says it refused: see `docs/reliability.md`.
"""
