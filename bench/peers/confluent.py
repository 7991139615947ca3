"""What a careful script does with confluent-kafka and pyarrow: nothing is exactly once.

    confluent.py publish BROKER TOPIC EVENTS.csv
    confluent.py drain BROKER TOPIC OUT.parquet
"""

import csv
import io
import json
import sys

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

RATES = (("EUR", 1.17), ("DKK", 0.16), ("SEK", 0.11), ("NOK", 0.10))


def publish(broker, topic, path):
    producer = Producer({
        "bootstrap.servers": broker,
        "partitioner": "murmur2_random",
        "linger.ms": 50,
        "batch.num.messages": 100_000,
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 1_000_000,
    })
    failed = []
    dumps = json.JSONEncoder(separators=(",", ":")).encode
    with open(path, newline="") as file:
        for number, row in enumerate(csv.DictReader(file, delimiter=";")):
            currency, rate = RATES[int(row["trans_num"][0], 16) >> 2]
            amount = float(row.pop("amt")) / rate
            row["unix_time"] = int(row["unix_time"])
            row["is_fraud"] = int(row["is_fraud"])
            row |= {"original_amt": amount, "currency": currency}
            while True:
                try:
                    producer.produce(topic, dumps(row), row["user_id"])
                    break
                except BufferError:
                    producer.poll(0.1)
            if number % 10_000 == 0:
                producer.poll(0)
    if producer.flush(300):
        sys.exit("not everything was sent")


def drain(broker, topic, path):
    import pyarrow.json
    import pyarrow.parquet

    consumer = Consumer({
        "bootstrap.servers": broker,
        "group.id": "bench-confluent",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.queue.backoff.ms": 5,
    })
    partitions = consumer.list_topics(topic, 30).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
    left, values, writer = len(partitions), [], None
    while left or values:
        for message in consumer.consume(10_000, 0.1) if left else []:
            if message.error() is None:
                values.append(message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                left -= 1
            else:
                sys.exit(str(message.error()))
        if values and (len(values) >= 100_000 or not left):
            table = pyarrow.json.read_json(io.BytesIO(b"\n".join(values)))
            writer = writer or pyarrow.parquet.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            values = []
    writer.close()
    consumer.close()


if __name__ == "__main__":
    {"publish": publish, "drain": drain}[sys.argv[1]](*sys.argv[2:])
