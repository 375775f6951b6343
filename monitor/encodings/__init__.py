"""Records that are not written as JSON: Avro and Protobuf with a schema registry, packed float32."""
