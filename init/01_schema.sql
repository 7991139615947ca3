-- The tables, with the names and types of the platform that ftap replaces. Safe to run again: existing
-- tables are left as they are. Run by the postgres container of docker compose
-- (docker-entrypoint-initdb.d) and by `ftap` itself.

-- `public` is written out because a role with a schema of its own name would create the tables there.
-- The replica identity is the default, the primary key: updates and deletes identify their row.
CREATE TABLE IF NOT EXISTS public.users (
    user_id UUID PRIMARY KEY,
    first_name TEXT,
    last_name TEXT,
    gender CHAR,
    street TEXT,
    city TEXT,
    zip INT,
    lat DECIMAL,
    long DECIMAL,
    job TEXT,
    dob DATE
);

CREATE TABLE IF NOT EXISTS public.merchants (
    merchant TEXT PRIMARY KEY,
    merch_lat DECIMAL,
    merch_long DECIMAL,
    merch_zipcode INTEGER
);

-- State of ftap itself, in a schema of its own so that readers of `public` do not replicate it.
CREATE SCHEMA IF NOT EXISTS ftap;

-- One row per run of a job that changes data, written in the transaction of the change: a run that is
-- recorded here was applied, and any other run changed nothing.
CREATE TABLE IF NOT EXISTS ftap.job_runs (
    job TEXT NOT NULL,
    tick TIMESTAMPTZ NOT NULL,
    rows_changed BIGINT NOT NULL,
    detail TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (job, tick)
);

-- One row per loaded file, so that loading it again does not restore rows that were deleted since.
CREATE TABLE IF NOT EXISTS ftap.loads (
    table_name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    file TEXT NOT NULL,
    rows_inserted BIGINT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, fingerprint)
);
