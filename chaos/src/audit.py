"""Compares the lake with the events file and the topic. Shares no code with what wrote it.

audit.py LAKE EVENTS_CSV TOPIC_CSV: prints one JSON object.

lost      rows of the file that the lake lacks
doubled   rows that the lake has more often than the file
foreign   rows of the lake that are not in the file
cents_*   sums of the amounts, in cents of a dollar
offsets_* places in the log: in the lake twice; rows of the topic that the lake lacks;
          places of the lake that hold no row of the topic
"""

import json
import os
import sys

import duckdb

lake, events, topic = sys.argv[1:4]


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


db = duckdb.connect()
db.execute("set enable_progress_bar = false")
db.execute("set threads = 2")
db.execute("set memory_limit = '4GB'")
db.execute(f"set temp_directory = {quoted(topic + '.tmp')}")
db.execute("set timezone = 'UTC'")

has_files = any(
    name.endswith(".parquet") for _, _, names in os.walk(lake) for name in names
)
source = (
    f"read_parquet({quoted(lake + '/**/*.parquet')}, filename = true)"
    if has_files
    else """(select ''::varchar trans_date_trans_time, '' user_id, '' merchant, '' category,
        '' trans_num, 0::bigint unix_time, 0::bigint is_fraud, 0::double original_amt,
        'EUR' currency, 0::int _kafka_partition, 0::bigint _kafka_offset, '' filename
        where false)"""
)
db.execute("create table rates(currency varchar, usd double)")
db.execute("insert into rates values ('EUR', 1.17), ('DKK', 0.16), ('SEK', 0.11), ('NOK', 0.10)")
# The amount comes from a division by the rate; times the rate it is a whole number of cents.
db.execute(f"""create table lake as
    select trans_date_trans_time, user_id, merchant, category, trans_num, unix_time, is_fraud,
        cast(round(original_amt * usd * 100) as bigint) as cents,
        _kafka_partition as part, _kafka_offset as place, filename
    from {source} left join rates using (currency)""")
db.execute(f"""create table events as
    select trans_date_trans_time, user_id, merchant, category, trans_num,
        cast(unix_time as bigint) as unix_time, cast(is_fraud as bigint) as is_fraud,
        cast(round(cast(amt as decimal(18, 4)) * 100) as bigint) as cents
    from read_csv({quoted(events)}, delim = ';', header = true, all_varchar = true)""")
db.execute(f"""create table topic as
    select partition as part, "offset" as place, kind
    from read_csv({quoted(topic)}, delim = ';', header = true,
        types = {{'partition': 'INTEGER', 'offset': 'BIGINT', 'kind': 'VARCHAR'}})""")

columns = "trans_date_trans_time, user_id, merchant, category, trans_num, unix_time, is_fraud, cents"
db.execute(f"""create table differing as
    select {columns}, sum(in_file) as in_file, sum(in_lake) as in_lake from (
        select {columns}, 1 as in_file, 0 as in_lake from events
        union all select {columns}, 0, 1 from lake)
    group by all having sum(in_file) <> sum(in_lake)""")


def value(query):
    return int(db.execute(query).fetchone()[0] or 0)


# Control records and aborted ones take places, too: neighbours are neighbours in the topic.
db.execute("""create table ranks as select part, place,
    row_number() over (partition by part order by place) as rank
    from (select part, place from topic union select part, place from lake)""")


def ranges(query):
    """The first twenty runs of neighbouring places of `query` (part, place)."""
    found = db.execute(f"""
        with places as (select * from (select distinct part, place from ({query}))
            join ranks using (part, place)),
        islands as (select *, rank - row_number() over (partition by part order by rank) as island
            from places)
        select part, min(place), max(place) from islands group by part, island
        order by part, min(place) limit 20""").fetchall()
    return [{"partition": p, "first_offset": a, "last_offset": b} for p, a, b in found]


doubled = "select part, place from lake group by all having count(*) > 1"
rows = "select part, place from topic where kind = 'row'"
lacking = f"select * from ({rows}) except select part, place from lake"
unknown = f"select part, place from lake except {rows}"
# What the transactions are that differ, and where the lake has them.
examples = db.execute("""select trans_num, in_file, in_lake,
    (select list(part || '-' || place || ' in ' || filename) from lake where lake.trans_num = d.trans_num)
    from differing d limit 20""").fetchall()
files = db.execute(f"""select distinct filename from lake
    where (part, place) in ({doubled}) order by 1 limit 20""").fetchall()

print(json.dumps({
    "files": value("select count(distinct filename) from lake"),
    "file_rows": value("select count(*) from events"),
    "lake_rows": value("select count(*) from lake"),
    "lost": value("select sum(in_file - in_lake) from differing where in_file > in_lake"),
    "doubled": value("select sum(in_lake - in_file) from differing where in_lake > in_file and in_file > 0"),
    "foreign": value("select sum(in_lake) from differing where in_file = 0"),
    "cents_file": value("select sum(cents) from events"),
    "cents_lake": value("select sum(cents) from lake"),
    "offsets_doubled": value(f"select count(*) from ({doubled})"),
    "offsets_missing": value(f"select count(*) from ({lacking})"),
    "offsets_unknown": value(f"select count(*) from ({unknown})"),
    "where_doubled": ranges(doubled),
    "where_missing": ranges(lacking),
    "where_unknown": ranges(unknown),
    "files_doubled": [name for (name,) in files],
    "examples": [
        {"trans_num": n, "in_file": int(f), "in_lake": int(l), "places": p}
        for n, f, l, p in examples
    ],
}))
