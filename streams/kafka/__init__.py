"""The session on a real Kafka, by librdkafka."""
