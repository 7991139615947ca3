-- The publication that Airbyte reads in the platform that ftap replaces. Safe to run again: an existing
-- publication is left as it is.
--
-- There it is FOR ALL TABLES. PostgreSQL refuses to update or delete rows of a published table that has
-- neither a primary key nor a replica identity, so that would break tables of others, also those that are
-- created later. Here it has the two tables that matter. If one of these was changed so that it has no
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
    CREATE PUBLICATION airbyte_publication FOR TABLE public.users, public.merchants;
END
$$;
