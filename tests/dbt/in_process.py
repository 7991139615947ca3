"""Compares what `ftap models run --out FOLDER` wrote with expected.py: in_process.py LAKE FOLDER [FILES].

With FILES, also with the hand-checked tables in it, as compare.py does.
"""

import pathlib
import sys

import compare
import duckdb
import expected


def main():
    lake, out = map(pathlib.Path, sys.argv[1:3])
    files = pathlib.Path(sys.argv[3]) if len(sys.argv) > 3 else None
    wanted = expected.tables(**compare.read_lake(lake))
    # Staging is how the others read the lake.
    written = {file.stem: file for file in out.glob("*.parquet") if not file.stem.startswith("stg_")}
    assert written.keys() == wanted.keys(), written.keys() ^ wanted.keys()
    database = duckdb.connect()
    database.execute("set timezone = 'UTC'")
    for model, file in written.items():
        # The engine has names in lower case.
        names = {name.lower(): name for row in wanted[model][:1] for name in row}
        found = [
            {names.get(name, name): value for name, value in row.items()}
            for row in compare.rows_of(database.read_parquet(str(file)))
        ]
        compare.compare(model, found, wanted[model])
        if files and (files / f"{model}.csv").exists():
            compare.compare_with_file(model, found, files / f"{model}.csv")
    print(f"{len(written)} models agree, {len(wanted['fct_transactions'])} transactions")


if __name__ == "__main__":
    main()
