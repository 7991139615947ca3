-- The publication that Airbyte reads in the original platform. FOR ALL TABLES takes a superuser; any
-- other owner of the tables gets the two that matter. Safe to run again.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'airbyte_publication') THEN
        BEGIN
            CREATE PUBLICATION airbyte_publication FOR ALL TABLES;
        EXCEPTION WHEN insufficient_privilege THEN
            CREATE PUBLICATION airbyte_publication FOR TABLE public.users, public.merchants;
        END;
    END IF;
END
$$;
