"""Times each model in `ftap` and in DuckDB, on the same files in the same run: bench.py FTAP LAKE [MODEL...]

Cold: each time is that of a new process which reads the lake's files, computes the model and what it needs, and
writes it as Parquet. DuckDB's is without its start and import. The best of three turns counts: machines are noisy,
so compare the ratios.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import duckdb
import emulator
import yaml

PROJECT = pathlib.Path(__file__).parents[2] / "dbt"
TURNS = 3


def shapes(lake):
    """Statements for a view of each source: columns that no file has are NULL."""
    sources = yaml.safe_load((PROJECT / "models/sources.yml").read_text())
    yield "create schema lake"
    for table in sources["sources"][0]["tables"]:
        columns = ", ".join(f'cast(null as {c["data_type"]}) as "{c["name"]}"' for c in table["columns"])
        rows = f"select {columns} where false"
        files = table["config"]["meta"]["files"]
        if any(pathlib.Path(lake).glob(files)):
            rows += f" union all by name select * from read_parquet('{lake}/{files}', union_by_name = true)"
        yield f"create view lake.{table['name']} as {rows}"


def in_duckdb(lake, model, out):
    """Seconds from an empty database to the written model."""
    models = emulator.render(PROJECT, "duckdb", "")
    started = time.perf_counter()
    database = duckdb.connect()
    for statement in shapes(lake):
        database.execute(statement)
    for name, statement in models:
        database.execute(f"create view {name} as {statement}")
    database.execute(f"copy (select * from {model}) to '{out}' (compression zstd)")
    return time.perf_counter() - started


def run(command, lake):
    """Seconds and peak memory in MB of a process, and what it printed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "LAKE_DIR": lake})
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return time.perf_counter() - started, usage.ru_maxrss / 1000, printed


def count(file):
    return duckdb.sql(f"select count(*) from '{file}'").fetchall()[0][0]


def compare(ftap, lake, model):
    ours, theirs = [], []
    for _ in range(TURNS):
        with tempfile.TemporaryDirectory() as folder:
            out = f"{folder}/out.parquet"
            ours.append(run([ftap, "query", f"select * from {model}", "--out", out], lake)[:2])
            rows = count(out)
            os.remove(out)
            _, megabytes, seconds = run([sys.executable, __file__, "--duckdb", lake, model, out], lake)
            theirs.append((float(seconds), megabytes))
            assert rows == count(out), model
    (seconds, megabytes), (their_seconds, their_megabytes) = min(ours), min(theirs)
    print(
        f"{model:20} {rows:>9,} rows {seconds:6.2f} s {megabytes:6.0f} MB, "
        f"DuckDB {their_seconds:6.2f} s {their_megabytes:6.0f} MB: {seconds / their_seconds:5.2f} of its time",
        flush=True,
    )


def main():
    if sys.argv[1] == "--duckdb":
        print(in_duckdb(*sys.argv[2:]))
        return
    ftap, lake, *names = sys.argv[1:]
    models = [name for name, _ in emulator.render(PROJECT, "duckdb", "") if not name.startswith("stg_")]
    for model in names or models:
        compare(os.path.abspath(ftap), os.path.abspath(lake), model)


if __name__ == "__main__":
    main()
