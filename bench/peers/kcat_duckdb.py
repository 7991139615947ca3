"""A topic into one Parquet file by kcat and DuckDB; it can't continue where it ended.

    kcat_duckdb.py BROKER TOPIC OUT.parquet
"""

import os
import subprocess
import sys

import duckdb

broker, topic, path = sys.argv[1:]
kcat = subprocess.Popen(
    ["kcat", "-C", "-e", "-q", "-o", "beginning", "-b", broker, "-t", topic], stdout=subprocess.PIPE
)
os.dup2(kcat.stdout.fileno(), 0)
columns = """{
    trans_date_trans_time: 'VARCHAR', user_id: 'VARCHAR', merchant: 'VARCHAR', category: 'VARCHAR',
    trans_num: 'VARCHAR', unix_time: 'BIGINT', is_fraud: 'BIGINT', original_amt: 'DOUBLE', currency: 'VARCHAR'
}"""
duckdb.execute(
    f"""COPY (FROM read_json('/dev/stdin', format = 'newline_delimited', columns = {columns}))
    TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""
)
sys.exit(kcat.wait())
