"""What the daemon survives: each fault is a row with a pass condition, tried against a real Apache Kafka (`make faults`)."""
