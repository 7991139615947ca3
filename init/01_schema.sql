-- The tables, as the original platform has them. Safe to run again: what exists is left as it is.
-- Run by the postgres container of docker compose (docker-entrypoint-initdb.d) and by `ftap` itself.

-- `public` is written out: a role that has a schema of its own name would make them there.
-- Their replica identity is the default, the primary key: an update or delete says which row.
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

-- What ftap itself has to remember, in a schema of its own: whoever replicates `public` sees none of it.
CREATE SCHEMA IF NOT EXISTS ftap;

-- One row a run of a job that changes data, written in the transaction of the change: a run that is
-- here has been applied, one that is not has left nothing.
CREATE TABLE IF NOT EXISTS ftap.job_runs (
    job TEXT NOT NULL,
    tick TIMESTAMPTZ NOT NULL,
    rows_changed BIGINT NOT NULL,
    detail TEXT NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (job, tick)
);

-- One row a file that has been loaded, so that loading it again does not bring back what was deleted since.
CREATE TABLE IF NOT EXISTS ftap.loads (
    table_name TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    file TEXT NOT NULL,
    rows_inserted BIGINT NOT NULL,
    loaded_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (table_name, fingerprint)
);
