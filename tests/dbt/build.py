"""Runs `dbt build` on several lakes and prints what happened: build.py PROJECT FOLDER...

A FOLDER has a `lake` and gets the database `marts.duckdb`; paths are absolute. The last line that it prints is
JSON, per folder an object: `error`, or null; `failed` and `warned`, names of tests; `log`, what the macros log. One
process and one parse serve all, for starting dbt takes longer than building.
"""

import json
import os
import pathlib
import sys

from dbt.cli.main import dbtRunner


def main():
    project, *folders = sys.argv[1:]
    os.environ["DBT_TARGET_PATH"] = str(pathlib.Path(folders[0]) / "target")
    os.environ["DBT_LOG_PATH"] = str(pathlib.Path(folders[0]) / "logs")
    reports = []
    log = []

    def note(event):
        if event.info.name == "JinjaLogInfo":
            log.append(event.info.msg)

    manifest = None
    for folder in map(pathlib.Path, folders):
        os.environ["FTAP_LAKE"] = str(folder / "lake")
        os.environ["FTAP_DUCKDB"] = str(folder / "marts.duckdb")
        log.clear()
        runner = dbtRunner(manifest=manifest, callbacks=[note])
        place = ["--project-dir", project, "--profiles-dir", project]
        if manifest is None:
            manifest = runner.invoke(["--quiet", "parse", *place]).result
            runner.manifest = manifest
        built = runner.invoke(["--quiet", "--no-use-colors", "build", *place])
        results = getattr(built.result, "results", None) or []

        def named(status):
            return sorted(result.node.name for result in results if result.status == status)

        errors = [result.message for result in results if result.status == "error"]
        reports.append({
            "error": str(built.exception) if built.exception else "; ".join(errors) or None,
            "failed": named("fail"),
            "warned": named("warn"),
            "log": list(log),
        })
    # dbt prints errors to standard output, before this line.
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
