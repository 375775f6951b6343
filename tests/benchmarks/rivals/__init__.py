"""Other ways to score a Kafka topic, for `make bench-throughput`; most run in an environment of their own."""
