//! What can go wrong with a query, in words for its author.

use std::fmt;
use std::time::Duration;

use datafusion::common::{DataFusionError, Diagnostic, SchemaError, Span};
use ftap_lake::LakeError;

use crate::models::ModelError;

/// A place in a statement, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    /// In characters.
    pub column: usize,
}

/// Why a query has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is wrong, or it would change something.
    #[error("{}", Explained(.message, .help, .place))]
    Sql {
        message: String,
        /// What to write instead.
        help: Vec<String>,
        /// Where, and the line itself.
        place: Option<(Position, String)>,
        #[source]
        source: Option<Box<DataFusionError>>,
    },
    /// The query ran for as long as it may.
    #[error("no answer within {} s: ask for less, or give it more time with --timeout", .0.as_secs())]
    TimedOut(Duration),
    /// The query needs more memory than it may have.
    #[error(
        "the query needs more memory than it may have ({0}): ask for less, or give it more with --memory"
    )]
    OutOfMemory(String),
    #[error(transparent)]
    Lake(#[from] LakeError),
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An object that can't be read, a value that has no such type, and the like.
    #[error("{}", .0.strip_backtrace())]
    Failed(Box<DataFusionError>),
    /// The answer can't be written.
    #[error("the answer can't be written")]
    Output(#[from] std::io::Error),
}

struct Explained<'a>(&'a String, &'a Vec<String>, &'a Option<(Position, String)>);

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(message, help, place) = self;
        if let Some((position, _)) = place {
            write!(f, "line {}, column {}: ", position.line, position.column)?;
        }
        write!(f, "{message}")?;
        for help in *help {
            write!(f, "; {help}")?;
        }
        if let Some((position, line)) = place {
            let before = " ".repeat(position.column.saturating_sub(1));
            write!(f, "\n  {line}\n  {before}^")?;
        }
        Ok(())
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(what) => Self::OutOfMemory(what.clone()),
            _ => Self::Failed(Box::new(error)),
        }
    }
}

impl QueryError {
    /// An error from before the first row.
    pub(crate) fn planning(sql: &str, tables: &[String], error: DataFusionError) -> Self {
        let explained = |message: String, help, position: Option<Position>| {
            let place = position.and_then(|position| {
                let line = sql.lines().nth(position.line - 1)?;
                Some((position, line.to_owned()))
            });
            (message, help, place)
        };
        let (message, help, place) = match error.find_root() {
            DataFusionError::SQL(parser, _) => {
                let (message, position) = split_position(&parser.to_string());
                explained(message, Vec::new(), position)
            }
            _ => match error.diagnostic() {
                Some(diagnostic) => {
                    let mut help: Vec<String> = diagnostic
                        .helps
                        .iter()
                        .map(|help| help.message.clone())
                        .collect();
                    if help.is_empty() {
                        help.extend(similar_column(error.find_root()));
                        help.extend(similar_table(diagnostic, tables));
                    }
                    explained(
                        diagnostic.message.clone(),
                        help,
                        diagnostic.span.and_then(position_of),
                    )
                }
                None => match error.find_root() {
                    DataFusionError::Plan(_)
                    | DataFusionError::SchemaError(..)
                    | DataFusionError::NotImplemented(_) => {
                        explained(error.find_root().message().into_owned(), Vec::new(), None)
                    }
                    _ => return error.into(),
                },
            },
        };
        Self::Sql {
            message,
            help,
            place,
            source: Some(Box::new(error)),
        }
    }
}

fn position_of(span: Span) -> Option<Position> {
    let position = Position {
        line: usize::try_from(span.start.line).ok()?,
        column: usize::try_from(span.start.column).ok()?,
    };
    // An empty span has line 0.
    (position.line > 0).then_some(position)
}

/// The parser ends its sentences with ` at Line: 1, Column: 8`.
fn split_position(sentence: &str) -> (String, Option<Position>) {
    let sentence = sentence
        .strip_prefix("sql parser error: ")
        .unwrap_or(sentence);
    let parsed = sentence
        .rsplit_once(" at Line: ")
        .and_then(|(text, place)| {
            let (line, column) = place.split_once(", Column: ")?;
            let position = Position {
                line: line.parse().ok().filter(|line| *line > 0)?,
                column: column.trim().parse().ok()?,
            };
            Some((text.to_owned(), Some(position)))
        });
    parsed.unwrap_or_else(|| (sentence.to_owned(), None))
}

/// Help for a column that is not there.
fn similar_column(error: &DataFusionError) -> Option<String> {
    let DataFusionError::SchemaError(error, _) = error else {
        return None;
    };
    let SchemaError::FieldNotFound {
        field,
        valid_fields,
    } = error.as_ref()
    else {
        return None;
    };
    let names = valid_fields.iter().map(|field| field.name());
    nearest(field.name(), names).map(|name| format!("did you mean '{name}'?"))
}

/// Help for a table that is not there.
fn similar_table(diagnostic: &Diagnostic, tables: &[String]) -> Option<String> {
    let wanted = diagnostic.message.strip_prefix("table '")?;
    let wanted = wanted.split('\'').next()?;
    match nearest(wanted, tables.iter().map(String::as_str)) {
        Some(name) => Some(format!("did you mean '{name}'?")),
        None => Some(format!("there are {}", tables.join(", "))),
    }
}

/// The name that may have been meant.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let rated = names.map(|name| (strsim::jaro_winkler(name, wanted), name));
    let best = rated.max_by(|(left, _), (right, _)| left.total_cmp(right));
    best.filter(|(similarity, _)| *similarity > 0.8)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parsers_position_is_taken_from_its_sentence() {
        let (text, position) = split_position(
            "sql parser error: Expected: an expression, found: FROM at Line: 2, Column: 8",
        );
        assert_eq!(text, "Expected: an expression, found: FROM");
        assert_eq!(position, Some(Position { line: 2, column: 8 }));
        let odd = "sql parser error: unterminated at Line: x, Column: 8";
        assert_eq!(split_position(odd).1, None);
    }
}
