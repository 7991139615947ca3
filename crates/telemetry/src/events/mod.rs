//! Every log event of the actors: its name, level, fields and meaning, in one table.
//!
//! Logs are an interface. Code emits an event only through a struct of this
//! module, so the catalogue in `docs/EVENTS.md`, which a test renders from
//! [`catalogue`], can't drift from what is logged. Every line carries `event`,
//! `actor` and `generation` beside the fields of its struct.

use std::fmt::{self, Write as _};

/// Name of an actor, with its number if there are several of its kind: `parquet_buffer_3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StageName {
    /// In snake case.
    kind: &'static str,
    /// From 0.
    index: Option<usize>,
}

impl StageName {
    /// The name of one of several actors of a kind.
    pub const fn numbered(kind: &'static str, index: usize) -> Self {
        Self {
            kind,
            index: Some(index),
        }
    }

    /// What all actors of its kind are called.
    pub const fn kind(&self) -> &'static str {
        self.kind
    }

    const fn only(kind: &'static str) -> Self {
        Self { kind, index: None }
    }
}

impl From<&'static str> for StageName {
    fn from(kind: &'static str) -> Self {
        Self::only(kind)
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}_{index}", self.kind),
            None => f.write_str(self.kind),
        }
    }
}

/// Who speaks: the actor's name and the generation it belongs to.
///
/// Generation 0 is the process itself, before or outside any actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    pub actor: StageName,
    /// How often its group has been started.
    pub generation: u64,
}

impl Speaker {
    /// The process itself: start, stop, command line.
    pub const PROCESS: Speaker = Speaker {
        actor: StageName::only("ftap"),
        generation: 0,
    };

    /// A speaker of the given generation.
    pub fn new(actor: impl Into<StageName>, generation: u64) -> Self {
        Self {
            actor: actor.into(),
            generation,
        }
    }
}

/// One entry of the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct EventDoc {
    /// Value of the `event` field.
    pub name: &'static str,
    /// The struct that logs it.
    pub type_name: &'static str,
    /// Upper-case level.
    pub level: &'static str,
    /// What happened.
    pub doc: &'static str,
    pub fields: &'static [FieldDoc],
}

/// A field of an event.
#[derive(Clone, Copy, Debug)]
pub struct FieldDoc {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether it is null while it is not known.
    pub is_nullable: bool,
    pub doc: &'static str,
}

macro_rules! events {
    ($catalogue:ident; $(
        #[doc = $doc:literal]
        $level:ident $ty:ident $name:literal {
            $( #[doc = $fdoc:literal] $field:ident : $fty:ty ),* $(,)?
        }
    )*) => {
        $(
            #[doc = $doc]
            #[derive(Clone, Debug)]
            pub struct $ty {
                $( #[doc = $fdoc] pub $field: $fty, )*
            }

            impl $ty {
                /// Writes the event to the log.
                pub fn emit(&self, who: Speaker) {
                    tracing::event!(
                        target: "ftap",
                        tracing::Level::$level,
                        event = $name,
                        actor = who.actor.to_string().as_str(),
                        generation = who.generation,
                        $( $field = self.$field.logged(), )*
                    );
                }
            }
        )*

        /// Every event of this file, in its order.
        pub const $catalogue: &[EventDoc] = &[
            $( EventDoc {
                name: $name,
                type_name: stringify!($ty),
                level: stringify!($level),
                doc: $doc,
                fields: &[ $( FieldDoc {
                    name: stringify!($field),
                    kind: <$fty as Field>::KIND,
                    is_nullable: <$fty as Field>::IS_NULLABLE,
                    doc: $fdoc,
                } ),* ],
            } ),*
        ];
    };
}

mod field;
mod jobs;
mod others;
mod stream;
use field::Field;
pub use field::{JSON_MARK, Kind};
pub use jobs::*;
pub use others::OTHERS;
pub use stream::*;

/// Every event that a struct of this module logs.
pub fn catalogue() -> impl Iterator<Item = &'static EventDoc> + Clone {
    STREAM.iter().chain(JOBS)
}

/// The catalogue as Markdown, the text of `docs/EVENTS.md`.
pub fn catalogue_markdown() -> String {
    let mut out = String::from(
        "# Log events\n\n\
         One JSON object a line when the output is not a terminal or `LOG_FORMAT=json`, which makes\n\
         every line of standard error one, the error that ends a command included. A field name has the\n\
         same type in all events; what is not known is null. Every line has `timestamp`, `level`, `event`, `actor` and `generation`; the table\n\
         lists what each event adds. Made from `crates/telemetry/src/events/`; a test compares.\n\n\
         | event | level | meaning | fields |\n|---|---|---|---|\n",
    );
    for event in catalogue().chain(OTHERS) {
        let fields = event
            .fields
            .iter()
            .map(|field| {
                let null = if field.is_nullable { " or null" } else { "" };
                let (name, kind, doc) = (field.name, field.kind.as_str(), field.doc.trim());
                format!("`{name}` ({kind}{null}): {doc}")
            })
            .collect::<Vec<_>>()
            .join("<br>");
        writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            event.name,
            event.level,
            event.doc.trim(),
            fields
        )
        .expect("writing to a String can't fail");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::StageName;

    #[test]
    fn each_of_several_actors_has_a_name_of_its_own() {
        let name = |index| StageName::numbered("parquet_buffer", index).to_string();
        assert_eq!(name(0), "parquet_buffer_0");
        assert_eq!(name(17), "parquet_buffer_17");
        assert_eq!(StageName::from("csv_reader").to_string(), "csv_reader");
    }
}
