"""Inputs nobody thought of, for the code that reads bytes nobody vouches for: see "Fuzzing" in CONTRIBUTING.md."""
