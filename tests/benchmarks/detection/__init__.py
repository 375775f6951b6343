"""Detection quality on public data sets, beside simple baselines on the same rows: `python -m tests.benchmarks.detection`."""
