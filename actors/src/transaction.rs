//! One card transaction: CSV row, Kafka message, Arrow row.
