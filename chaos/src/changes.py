"""Replays the captured changes and compares them with PostgreSQL's tables. Shares no code with what wrote them.

changes.py LAKE DIR TOTAL: prints one JSON object. DIR has the tables as `users.jsonl` and `merchants.jsonl`;
TOTAL is the sum of all merchants' amounts, which must hold after every commit.
"""

import json
import sys

import duckdb

lake, tables, total = sys.argv[1], sys.argv[2], int(sys.argv[3])
KEYS = {"users": "user_id", "merchants": "merchant"}
db = duckdb.connect()
db.execute("set timezone = 'UTC'")
problems = []
found = {}
positions = set()


def wrong(text):
    if len(problems) < 20:
        problems.append(text)


def replay(table, key, files, epoch):
    """The table as its snapshot and changes of one epoch give it."""
    query = db.execute(f"""select * exclude (_commit_time) from {files} where _epoch = {epoch}
        order by _commit_lsn, _seq""")
    names = [column[0] for column in query.description]
    state, commit = {}, None
    for values in query.fetchall():
        row = dict(zip(names, values))
        op, at = row["_op"], (row["_commit_lsn"], row["_seq"])
        if table == "merchants" and commit not in (None, row["_commit_lsn"]):
            amount = sum(row["merch_zipcode"] for row in state.values())
            if amount != total:
                wrong(f"after the commit at {commit:X} merchants have {amount}, expected {total}")
        commit = row["_commit_lsn"]
        if op == "snapshot":
            if row[key] in state:
                wrong(f"{table} {row[key]} is twice in the snapshot")
            state[row[key]] = row
            continue
        if (epoch, *at) in positions:
            wrong(f"the change at {at[0]:X}#{at[1]} is in the lake twice")
        positions.add((epoch, *at))
        before = json.loads(row["_before"])[key] if row["_before"] else None
        if op == "delete":
            if state.pop(row[key], None) is None:
                wrong(f"{table} {row[key]} is deleted at {at}, but was not there")
        elif op == "update":
            old = before if before is not None else row[key]
            known = state.pop(old, None)
            if known is None:
                wrong(f"{table} {old} is updated at {at}, but was not there")
            for name in json.loads(row["_unchanged"] or "[]"):
                row[name] = known and known[name]
            state[row[key]] = row
        elif op == "insert":
            if row[key] in state:
                wrong(f"{table} {row[key]} is inserted at {at}, but was there")
            state[row[key]] = row
        else:
            wrong(f"{table} has an operation {op} at {at}")
    return state


for table, key in KEYS.items():
    files = f"read_parquet('{lake}/{table}_changes/**/*.parquet', union_by_name = true)"
    epochs = db.execute(f"select _epoch, count(*) from {files} group by 1 order by 1").fetchall()
    for epoch, _ in epochs:
        state = replay(table, key, files, epoch)
    # Only the newest one continues to the end.
    with open(f"{tables}/{table}.jsonl") as lines:
        expected = {row[key]: row for row in map(json.loads, lines)}
    for missing in sorted(expected.keys() - state.keys())[:5]:
        wrong(f"{table} {missing} is not in the lake")
    for foreign in sorted(state.keys() - expected.keys())[:5]:
        wrong(f"{table} {foreign} is in the lake only")
    for name in expected.keys() & state.keys():
        for column, value in expected[name].items():
            held = state[name].get(column)
            if (str(held) if held is not None else None) != (str(value) if value is not None else None):
                wrong(f"{table} {name}: {column} is {value!r}, in the lake {held!r}")
    found[table] = {"epochs": len(epochs), "changes": sum(n for _, n in epochs), "rows": len(expected)}

# Of each commit the changes are numbered from 1 over both tables, without a gap; not so at the end of an
# epoch that ended between two files.
last = {}
newest = max((epoch for epoch, _, _ in positions), default=0)
for epoch, lsn, seq in sorted(positions):
    if epoch < newest:
        continue
    before = last.get((epoch, lsn), 0)
    if seq != before + 1:
        wrong(f"the commit at {lsn:X} has change {seq} after {before}")
    last[epoch, lsn] = seq

print(json.dumps({"problems": problems, "tables": found, "commits": len(last)}))
