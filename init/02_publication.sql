-- The publication that Airbyte reads in the platform that ftap replaces. Safe to run again: an existing
-- publication is left as it is.
--
-- It is FOR ALL TABLES, as in that platform, only if the database has no other tables. PostgreSQL refuses
-- to update or delete rows of a published table that has neither a primary key nor a replica identity, so
-- in a shared database FOR ALL TABLES would break other tables. It also requires a superuser. In all other
-- cases the publication has the two tables that matter. If one of these two was changed so that it has no
-- identity either, there is no publication.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_publication WHERE pubname = 'airbyte_publication') THEN
        RETURN;
    END IF;
    IF EXISTS (
        SELECT FROM pg_class AS c
        WHERE c.oid IN ('public.users'::regclass, 'public.merchants'::regclass)
            AND (c.relreplident = 'n' OR c.relreplident = 'd' AND NOT EXISTS (
                SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate
            ))
    ) THEN
        RAISE WARNING 'airbyte_publication is not created: users or merchants has no replica identity';
        RETURN;
    END IF;
    IF NOT EXISTS (
        SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p')
            AND n.nspname <> 'information_schema'
            -- The catalogue, TOAST and temporary tables; other schemas cannot have such a name.
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
