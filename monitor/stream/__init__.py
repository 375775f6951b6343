"""Kafka in, Kafka out: the source, the sink and the loop that joins them to the model."""
