"""Writes a lake from the CSV files of a folder: make_lake.py FOLDER LAKE.

Files have the names and the types of docs/DATA.md.
"""

import pathlib
import sys

import duckdb

OBJECTS = {
    "transactions": "transactions/2026-11-29/transactions-0-00000000000000000100",
    "transactions_old": "transactions/2026-11-29/transactions-0-00000000000000000000",
    "fx_rates": "fx_rates/2019/01/01/fx_rates_20190101_000000",
    "users_changes": "users_changes/2026-11-29/users-000001-snapshot-0001",
    "merchants_changes": "merchants_changes/2026-11-29/merchants-000001-snapshot-0001",
}
TYPES = {
    "unix_time": "BIGINT",
    "is_fraud": "BIGINT",
    "original_amt": "DOUBLE",
    "_kafka_partition": "INTEGER",
    "_kafka_offset": "BIGINT",
    "_kafka_timestamp": "TIMESTAMPTZ",
    "event_time": "TIMESTAMPTZ",
    "rate": "DOUBLE",
    "rate_time": "TIMESTAMPTZ",
    "zip": "INTEGER",
    "lat": "DOUBLE",
    "long": "DOUBLE",
    "dob": "DATE",
    "merch_lat": "DOUBLE",
    "merch_long": "DOUBLE",
    "merch_zipcode": "INTEGER",
    "_commit_lsn": "BIGINT",
    "_commit_time": "TIMESTAMPTZ",
    "_xid": "BIGINT",
    "_seq": "BIGINT",
    "_epoch": "BIGINT",
}


def main():
    source, lake = map(pathlib.Path, sys.argv[1:])
    database = duckdb.connect()
    for file in sorted(source.glob("*.csv")):
        object = lake / f"{OBJECTS[file.stem]}.parquet"
        object.parent.mkdir(parents=True, exist_ok=True)
        with open(file, encoding="utf-8") as lines:
            names = lines.readline().rstrip("\n").split(",")
        columns = {name: TYPES.get(name, "VARCHAR") for name in names}
        database.read_csv(str(file), header=True, columns=columns).write_parquet(str(object))


if __name__ == "__main__":
    main()
