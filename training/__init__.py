"""Learns, calibrates, evaluates and exports models. Imports `monitor`; is never imported by it."""
