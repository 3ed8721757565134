"""Workloads that both the tests and the long runs put on an index, each with the checks that follow it."""
