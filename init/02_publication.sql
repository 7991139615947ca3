-- The publication that Airbyte reads in the original platform. Safe to run again: one that is there is
-- left as it is.
--
-- FOR ALL TABLES, as in the original, only where there are no tables but ours. A server refuses to
-- update or delete rows of a published table that has neither a primary key nor a replica identity:
-- in a database that others use as well it would break their tables. It also takes a superuser.
-- Everybody else gets the two tables that matter.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_publication WHERE pubname = 'airbyte_publication') THEN
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p')
            AND n.nspname <> 'information_schema'
            -- The catalogue, TOAST and temporary tables; no other schema may be called so.
            AND n.nspname NOT LIKE 'pg\_%'
            AND (n.nspname, c.relname) NOT IN (
                ('public', 'users'), ('public', 'merchants'), ('ftap', 'job_runs'), ('ftap', 'loads')
            )
    ) THEN
        BEGIN
            CREATE PUBLICATION airbyte_publication FOR ALL TABLES;
            RETURN;
        EXCEPTION WHEN insufficient_privilege THEN
            NULL;
        END;
    END IF;
    CREATE PUBLICATION airbyte_publication FOR TABLE public.users, public.merchants;
END
$$;
