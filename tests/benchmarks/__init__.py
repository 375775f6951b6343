"""Benchmarks: each is a module that is run by hand or by `make`, prints a table and ends with one JSON object."""
