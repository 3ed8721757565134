"""Measures, each a run that prints one JSON line. Seeded and repeatable; figures are kept in README.md."""
