"""Drift: whether the records are still those that the model was trained on. Pure: knows no Kafka, publishes nothing."""
