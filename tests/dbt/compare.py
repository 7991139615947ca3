"""Compares the tables that dbt built with those of expected.py: compare.py LAKE DATABASE [FOLDER].

With a FOLDER, also with the hand-checked tables in it, FOLDER/{model}.csv.
"""

import csv
import datetime
import math
import pathlib
import sys

import duckdb
import expected

SOURCES = {
    "transactions": "transactions/*/*.parquet",
    "fx_rates": "fx_rates/*/*/*/*.parquet",
    "users_changes": "users_changes/*/*.parquet",
    "merchants_changes": "merchants_changes/*/*.parquet",
}


def rows_of(relation):
    names = relation.columns
    return [dict(zip(names, row)) for row in relation.fetchall()]


def read_lake(lake):
    database = duckdb.connect()
    database.execute("set timezone = 'UTC'")
    rows = {}
    for name, files in SOURCES.items():
        found = list(pathlib.Path(lake).glob(files))
        rows[name] = []
        if found:
            relation = database.read_parquet([str(file) for file in found], union_by_name=True)
            rows[name] = rows_of(relation)
    for rate in rows["fx_rates"]:
        rate.setdefault("rate_time", None)
    return rows


def same(found, wanted):
    if isinstance(found, float) and isinstance(wanted, (int, float)):
        # Sums of floats depend on their order, in the last digits.
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-9)
    return found == wanted


def in_order(rows):
    """By everything but floats: each model's key is among it."""
    def key(row):
        return [(value is not None, str(value)) for _, value in sorted(row.items()) if not isinstance(value, float)]
    return sorted(rows, key=key)


def compare(model, found, wanted):
    assert len(found) == len(wanted), f"{model}: {len(found)} rows, expected {len(wanted)}"
    for ours, theirs in zip(in_order(found), in_order(wanted)):
        assert ours.keys() == theirs.keys(), f"{model}: {ours.keys() ^ theirs.keys()} in one only"
        for name in ours:
            assert same(ours[name], theirs[name]), (
                f"{model}.{name}: {ours[name]!r}, expected {theirs[name]!r}, in {ours}"
            )


def as_text(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    return repr(value) if isinstance(value, float) else str(value)


def compare_with_file(model, found, file):
    with open(file, encoding="utf-8", newline="") as lines:
        wanted = list(csv.DictReader(lines))
    names = list(found[0])
    assert list(wanted[0]) == names, f"{file.name}: {list(wanted[0])}, the model has {names}"
    assert len(found) == len(wanted), f"{model}: {len(found)} rows, {file.name} has {len(wanted)}"

    # The first columns of a file are its key.
    by_text = sorted(found, key=lambda row: [as_text(row[name]) for name in names])
    for ours, theirs in zip(by_text, sorted(wanted, key=lambda row: list(row.values()))):
        for name in names:
            ours_is = as_text(ours[name])
            equal = ours_is == theirs[name] or (
                isinstance(ours[name], float) and theirs[name] and same(ours[name], float(theirs[name]))
            )
            assert equal, f"{model}.{name}: {ours_is}, {file.name} has {theirs[name]}, in {ours}"


def main():
    lake, path = sys.argv[1:3]
    folder = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    database = duckdb.connect(path, read_only=True)
    wanted = expected.tables(**read_lake(lake))
    models = [name for (name,) in database.execute(
        "select table_name from information_schema.tables"
        " where table_schema = 'main' and table_type = 'BASE TABLE'"
    ).fetchall()]
    assert sorted(models) == sorted(wanted), set(models) ^ set(wanted)
    for model in models:
        found = rows_of(database.table(model))
        compare(model, found, wanted[model])
        if folder and (folder / f"{model}.csv").exists():
            compare_with_file(model, found, folder / f"{model}.csv")
    print(f"{len(models)} models agree, {len(wanted['fct_transactions'])} transactions")


if __name__ == "__main__":
    main()
