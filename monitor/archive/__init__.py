"""The archive: a bounded sample of the scored records, kept for retraining."""
