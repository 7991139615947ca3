//! What a captured table must be like.
//!
//! Promises: a table is refused, with the statement that helps, if the server would refuse the
//! application's UPDATE and DELETE once the table is published, if its changes would not say which
//! row they are of, or if a query of it shows rows whose changes are not sent.

use std::collections::BTreeMap;

use deadpool_postgres::tokio_postgres::Row;
use ftap_postgres::PostgresError;

use crate::server::{Control, quoted, sought};

/// The partitions of the table `c`, at all levels; `pg_partition_tree` would lock them.
pub(crate) const PARTITIONS: &str = "(WITH RECURSIVE tree(relid) AS (
      SELECT i.inhrelid FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'p'
      UNION ALL SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.relid
    ) SELECT relid FROM tree)";

/// Whether the column `a` is published, by the row `t` of `pg_publication_tables`, if any.
/// Before version 18 no generated column is, and version 15 lists them all the same.
pub(crate) const IS_PUBLISHED: &str = "CASE WHEN a.attgenerated <> '' AND current_setting('server_version_num')::int < 180000
      THEN false ELSE coalesce(to_jsonb(t) -> 'attnames' ? a.attname::text, a.attgenerated = '') END";

/// The columns of an index `i` by which it is ordered, without those of INCLUDE.
const KEY: &str = "(i.indkey::int2[])[0:i.indnkeyatts - 1]";

/// The first version that refuses UPDATE and DELETE if the replica identity has a column that is
/// not published.
const CHECKS_GENERATED_COLUMNS: i32 = 180_000;

/// A captured table, or a partition of one.
struct Relation {
    name: String,
    kind: char,
    is_unlogged: bool,
    identity: char,
    /// The captured table, and its identity.
    root: String,
    root_identity: char,
    /// Columns by which the server identifies a row, unless it has none.
    identity_columns: Option<Vec<String>>,
    /// Those of the captured table's primary key, if it has one that counts.
    key: Option<Vec<String>>,
    /// Columns that are not published because they are generated; whether all of them are stored.
    generated: Vec<String>,
    are_stored: bool,
    /// Tables that inherit from it.
    children: Vec<String>,
    server_version: i32,
}

/// Why a table can't be captured, and the statement that helps.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    why: String,
    remedy: String,
}

impl Control<'_> {
    /// Fails if a captured table is not what it must be. Those whose OID is given are found by it
    /// under any name; one that is not there is passed over.
    pub(crate) async fn check_tables(
        &self,
        publication: &str,
        known: &BTreeMap<String, u32>,
    ) -> Result<(), PostgresError> {
        let (names, oids) = sought(known);
        // A key or an index counts as the server has it: valid, and not deferrable.
        let generated = format!(
            "a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> '' AND NOT ({IS_PUBLISHED})"
        );
        let sql = format!(
            "WITH captured AS (
              SELECT c.oid AS root, r.relid FROM unnest($1::text[], $2::oid[]) AS k(name, known)
              JOIN pg_class c ON c.oid = coalesce(to_regclass(k.name)::oid, k.known) AND c.relkind IN ('r', 'p')
              CROSS JOIN LATERAL (SELECT c.oid AS relid UNION ALL {PARTITIONS}) r
            )
            SELECT format('%I.%I', n.nspname, c.relname), c.relkind::text, c.relpersistence = 'u', c.relreplident::text,
              format('%I.%I', rn.nspname, root.relname), root.relreplident::text,
              CASE WHEN c.relreplident = 'f' THEN (SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
                ELSE (SELECT array_agg(a.attname::text) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ({KEY})
                  WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'i' THEN i.indisreplident WHEN 'd' THEN i.indisprimary END
                    AND i.indimmediate AND (i.indisvalid OR c.relkind = 'p')) END,
              (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ({KEY})
                WHERE i.indrelid = root.oid AND i.indisprimary AND i.indimmediate),
              coalesce((SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a WHERE {generated}), '{{}}'),
              coalesce((SELECT bool_and(a.attgenerated = 's') FROM pg_attribute a WHERE {generated}), true),
              coalesce((SELECT array_agg(format('%I.%I', cn.nspname, ch.relname) ORDER BY ch.oid) FROM pg_inherits i
                JOIN pg_class ch ON ch.oid = i.inhrelid JOIN pg_namespace cn ON cn.oid = ch.relnamespace WHERE i.inhparent = c.oid AND c.relkind = 'r'), '{{}}'),
              current_setting('server_version_num')::int
            FROM captured JOIN pg_class c ON c.oid = captured.relid JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_class root ON root.oid = captured.root JOIN pg_namespace rn ON rn.oid = root.relnamespace
            LEFT JOIN pg_publication_tables t ON t.pubname = $3 AND t.schemaname = rn.nspname AND t.tablename = root.relname
            ORDER BY captured.root, c.oid <> root.oid, c.oid"
        );
        let rows = self
            .client
            .query(&sql, &[&names, &oids, &publication])
            .await;
        let rows = rows.map_err(|error| PostgresError::of(self.settings, &error))?;
        let mut relations = rows.iter().map(Relation::from);
        match relations.find_map(|relation| Some((relation.refusal(publication)?, relation))) {
            None => Ok(()),
            Some((Refusal { why, remedy }, relation)) => Err(PostgresError::Table {
                address: self.settings.address(),
                table: relation.name,
                why,
                remedy,
            }),
        }
    }
}

impl From<&Row> for Relation {
    fn from(row: &Row) -> Self {
        let letter = |index| row.get::<_, &str>(index).chars().next().unwrap_or(' ');
        Self {
            name: row.get(0),
            kind: letter(1),
            is_unlogged: row.get(2),
            identity: letter(3),
            root: row.get(4),
            root_identity: letter(5),
            identity_columns: row.get(6),
            key: row.get(7),
            generated: row.get(8),
            are_stored: row.get(9),
            children: row.get(10),
            server_version: row.get(11),
        }
    }
}

impl Relation {
    fn refusal(&self, publication: &str) -> Option<Refusal> {
        self.hidden_rows()
            .or_else(|| self.unidentified_rows())
            .or_else(|| self.unpublished_identity(publication))
    }

    /// Rows that a query of the table shows and whose changes the server does not send.
    fn hidden_rows(&self) -> Option<Refusal> {
        let Self { name, root, .. } = self;
        let refusal = |why: String, remedy| Some(Refusal { why, remedy });
        if !self.children.is_empty() {
            let children = self.children.join(", ");
            let detach = |child| format!("ALTER TABLE {child} NO INHERIT {name}");
            let remedies: Vec<_> = self.children.iter().map(detach).collect();
            return refusal(
                format!(
                    "a query of it shows the rows of {children} as well, which inherit from it, but their changes are those of other tables"
                ),
                remedies.join("; "),
            );
        }
        if self.kind == 'f' {
            return refusal(
                format!("it is a partition of {root} on another server, which logs its changes"),
                format!("ALTER TABLE {root} DETACH PARTITION {name}"),
            );
        }
        if self.is_unlogged {
            return refusal(
                "it is UNLOGGED, so its changes are in no log".to_owned(),
                format!("ALTER TABLE {name} SET LOGGED"),
            );
        }
        None
    }

    /// Rows that the server does not identify, or not by their key.
    fn unidentified_rows(&self) -> Option<Refusal> {
        let name = &self.name;
        let alter = |identity| format!("ALTER TABLE {name} REPLICA IDENTITY {identity}");
        let Some(columns) = &self.identity_columns else {
            let identity = match self.identity {
                'n' => "NOTHING",
                'd' => "DEFAULT, and it has no primary key (one that is DEFERRABLE does not count)",
                _ => "USING INDEX, and that index is gone",
            };
            let remedy = match (&self.key, self.generated.as_slice()) {
                (Some(_), _) => alter("DEFAULT"),
                (None, []) => alter("FULL"),
                (None, _) => format!("ALTER TABLE {name} ADD PRIMARY KEY (…)"),
            };
            return Some(Refusal {
                why: format!(
                    "its replica identity is {identity}, so the server refuses its UPDATE and DELETE once it is published"
                ),
                remedy,
            });
        };
        let key = self.key.iter().flatten();
        let missing: Vec<_> = key.filter(|column| !columns.contains(column)).collect();
        if let Some(column) = missing.first() {
            return Some(Refusal {
                why: format!(
                    "its replica identity is USING INDEX without {column} of the primary key, so its changes would not say which row they are of"
                ),
                remedy: format!(
                    "{}, and `ftap cdc --resnapshot` if rows were deleted or got another key meanwhile",
                    alter("DEFAULT")
                ),
            });
        }
        // The server sends the row before as one of the captured table, whose identity says what
        // of it is known.
        if self.root_identity == 'f' && self.identity != 'f' {
            return Some(Refusal {
                why: format!(
                    "the replica identity of {} is FULL, but not that of this partition of it",
                    self.root
                ),
                remedy: alter("FULL"),
            });
        }
        None
    }

    /// Columns of the identity that are generated, and therefore not published.
    fn unpublished_identity(&self, publication: &str) -> Option<Refusal> {
        let name = &self.name;
        let is_refused = self.server_version >= CHECKS_GENERATED_COLUMNS;
        let matters = match self.identity {
            'f' if !is_refused => &self.key,
            _ => &self.identity_columns,
        };
        let mut columns = matters.iter().flatten();
        let column = columns.find(|column| self.generated.contains(column))?;
        let publish = format!(
            "ALTER PUBLICATION {} SET (publish_generated_columns = stored)",
            quoted(publication)
        );
        let remedy = match self.identity {
            'f' if self.key.is_some() => format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT"),
            _ if is_refused && self.are_stored => publish,
            _ => format!("give {name} a primary key without generated columns"),
        };
        Some(Refusal {
            why: format!(
                "its replica identity has the generated column {column}, which is not published, so {}",
                if is_refused {
                    "the server refuses its UPDATE and DELETE once it is published"
                } else {
                    "its changes would not say which row they are of"
                }
            ),
            remedy,
        })
    }
}
