//! What a server's settings and tables must not do to the captured changes without an error.

use crate::common::changes::{assert_same_table, catch_up, lab, lake};

#[test]
fn a_role_that_sees_only_a_part_of_a_table_is_refused_before_anything_is_copied() {
    let Some((mut lab, postgres)) = lab("cdc-rls") else {
        return;
    };
    postgres.sql(
        "CREATE ROLE reader LOGIN REPLICATION PASSWORD 'secret-word';
         ALTER TABLE users ENABLE ROW LEVEL SECURITY;
         CREATE POLICY a_part ON users FOR SELECT TO reader USING (first_name = 'First 1');
         GRANT ALL ON ALL TABLES IN SCHEMA public, ftap TO reader;
         GRANT USAGE ON SCHEMA ftap TO reader;
         CREATE PUBLICATION ftap_publication FOR TABLE users, merchants",
    );
    lab.set("POSTGRES_USER", "reader");
    lab.set("POSTGRES_PASSWORD", "secret-word");
    let (code, said) = lab.start(["cdc", "--until-drained"]).wait_for_failure();
    assert_eq!(code, 1, "{said}");
    for expected in [
        "row-level security policy",
        "users",
        "ALTER ROLE \"reader\" BYPASSRLS",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("secret-word"), "{said}");
    assert!(!lake(&lab).join("users_changes").exists());
    postgres.sql("ALTER ROLE reader BYPASSRLS");
    catch_up(&lab);
    assert_same_table(&postgres, lake(&lab), "users", "user_id");
}
