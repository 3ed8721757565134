"""The test suite. `conftest` has the fixtures: stores, engines, providers and the command."""
