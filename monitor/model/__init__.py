"""What a deployable model is: schema, decode, transform, score, calibrate, explain, store. No Kafka, no HTTP, no TensorFlow."""
