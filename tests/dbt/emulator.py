"""Runs the models on an emulator of BigQuery and compares them with expected.py: emulator.py PROJECT LAKE URL.

PROJECT is the folder dbt/, URL that of a project in the emulator's API. The models are rendered without dbt, by their
macros alone, with `target.type` bigquery.
"""

import datetime
import json
import pathlib
import sys
import types
import urllib.error
import urllib.request

import compare
import expected
import jinja2
import yaml

TYPES = {
    "string": "STRING",
    "bigint": "INT64",
    "integer": "INT64",
    "double": "FLOAT64",
    "date": "DATE",
    "timestamptz": "TIMESTAMP",
}


class Emulator:
    def __init__(self, url):
        self.url = url

    def post(self, path, body):
        request = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{error}: {error.read().decode()[:2000]}\n{body}") from error
        if answer.get("errors"):
            raise RuntimeError(f"{answer['errors']}\n{body}")
        return answer

    def run(self, statement):
        return self.post("queries", {"query": statement, "useLegacySql": False, "maxResults": 1_000_000})

    def rows(self, table):
        answer = self.run(f"select * from {table}")
        columns = [(field["name"], field["type"]) for field in answer["schema"]["fields"]]
        return [
            {name: value_of(cell["v"], kind) for (name, kind), cell in zip(columns, row["f"])}
            for row in answer.get("rows", [])
        ]


def value_of(text, kind):
    if text is None:
        return None
    if kind in ("INTEGER", "INT64"):
        return int(text)
    if kind in ("FLOAT", "FLOAT64"):
        return float(text)
    if kind in ("BOOLEAN", "BOOL"):
        return str(text).lower() == "true"
    if kind == "DATE":
        return datetime.date.fromisoformat(text)
    if kind == "TIMESTAMP":
        # Microseconds, or seconds in an older form of the API.
        number = float(text)
        seconds = number if abs(number) < 1e11 else number / 1e6
        return datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
    return text


def literal(value):
    if value is None:
        return "NULL"
    if isinstance(value, datetime.datetime):
        return f"TIMESTAMP '{value:%Y-%m-%d %H:%M:%S}+00'"
    if isinstance(value, datetime.date):
        return f"DATE '{value}'"
    return repr(value) if isinstance(value, (int, float)) else json.dumps(value)


def fill(emulator, project, lake):
    sources = yaml.safe_load((project / "models/sources.yml").read_text())
    for table in sources["sources"][0]["tables"]:
        columns = {column["name"]: TYPES[column["data_type"]] for column in table["columns"]}
        fields = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        emulator.run(f"create table lake.{table['name']} ({fields})")
        rows = [
            "(" + ", ".join(literal(row.get(name)) for name in columns) + ")" for row in lake[table["name"]]
        ]
        emulator.run(f"insert into lake.{table['name']} ({', '.join(columns)}) values {', '.join(rows)}")


def render(project, engine, place):
    """(name, statement) of each model for an engine, those that others need first; `place` stands before their names."""
    macros = "".join(
        file.read_text() for file in sorted((project / "macros").glob("*.sql")) if file.stem != "lake"
    )
    statements, needs = {}, {}
    for file in project.glob("models/*/*.sql"):
        named = set()

        def ref(name):
            named.add(name)
            return place + name

        statements[file.stem] = jinja2.Template(macros + file.read_text()).render(
            ref=ref,
            source=lambda _, name: f"lake.{name}",
            target=types.SimpleNamespace(type=engine),
        )
        needs[file.stem] = named
    done = []
    while len(done) < len(statements):
        done += sorted(name for name in statements if name not in done and needs[name] <= set(done))
    return [(name, statements[name]) for name in done]


def main():
    project, lake = map(pathlib.Path, sys.argv[1:3])
    emulator = Emulator(sys.argv[3])
    for name in ("lake", "marts"):
        emulator.post("datasets", {"datasetReference": {"projectId": "my-project", "datasetId": name}})
    rows = compare.read_lake(lake)
    fill(emulator, project, rows)
    wanted = expected.tables(**rows)
    for name, statement in render(project, "bigquery", "marts."):
        kind = "table" if name in wanted else "view"
        emulator.run(f"create {kind} marts.{name} as {statement}")
        if name in wanted:
            compare.compare(name, emulator.rows(f"marts.{name}"), wanted[name])


if __name__ == "__main__":
    main()
