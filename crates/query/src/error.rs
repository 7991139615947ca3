//! What can go wrong with a query, in words for its author.

use std::fmt;
use std::time::Duration;

use datafusion::arrow::error::ArrowError;
use datafusion::common::{DataFusionError, Diagnostic, SchemaError, Span};
use ftap_lake::LakeError;

use crate::functions::equivalent;
use crate::models::ModelError;

/// How many names an error lists.
const LISTED_NAMES: usize = 40;

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
    /// The query needs more temporary files than it may have.
    #[error(
        "the query needs more temporary files than it may have ({0}): join by a condition, filter or group first, or ask for fewer columns"
    )]
    OutOfSpace(String),
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
        // It comes as an error of a file, in one of the engine's own or not.
        if let Some(limit) = limit_of_files(&error.to_string()) {
            return Self::OutOfSpace(limit.to_owned());
        }
        match error.find_root() {
            DataFusionError::ResourcesExhausted(what) => Self::OutOfMemory(what.clone()),
            _ => Self::Failed(Box::new(error)),
        }
    }
}

/// The engine names the limit and a setting of its own, which can't be set.
fn limit_of_files(what: &str) -> Option<&str> {
    let (_, limit) = what.split_once("allowable limit of ")?;
    let (limit, _) = limit.split_once(". Please")?;
    Some(limit)
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
                        help.extend(similar_column(error.find_root(), sql));
                        help.extend(similar_table(diagnostic, tables));
                        help.extend(similar_function(diagnostic));
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
                    // Constants are computed while a statement is planned.
                    DataFusionError::ArrowError(wrong, _) => {
                        let (message, position) = wrong_constant(wrong, sql);
                        explained(message, Vec::new(), position)
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

/// What is wrong with a constant, and where it is.
fn wrong_constant(error: &ArrowError, sql: &str) -> (String, Option<Position>) {
    let message = match error {
        ArrowError::ParseError(text)
        | ArrowError::CastError(text)
        | ArrowError::ComputeError(text)
        | ArrowError::InvalidArgumentError(text) => text.clone(),
        other => other.to_string(),
    };
    let constant = message.split('\'').nth(1);
    let position = constant.and_then(|constant| {
        let constant = format!("'{constant}'");
        let mut lines = sql.lines().zip(1..);
        lines.find_map(|(text, line)| {
            let (before, _) = text.split_once(&constant)?;
            let column = before.chars().count() + 1;
            Some(Position { line, column })
        })
    });
    (message, position)
}

/// Help for a column that is not there.
fn similar_column(error: &DataFusionError, sql: &str) -> Vec<String> {
    let DataFusionError::SchemaError(error, _) = error else {
        return Vec::new();
    };
    let SchemaError::FieldNotFound {
        field,
        valid_fields,
    } = error.as_ref()
    else {
        return Vec::new();
    };
    let mut names: Vec<&str> = Vec::new();
    for field in valid_fields {
        if !names.contains(&field.name()) {
            names.push(field.name());
        }
    }
    let near = nearest(field.name(), names.iter().copied());
    let mut help = Vec::new();
    if sql.contains(&format!("\"{}\"", field.name())) {
        let name = field.name();
        help.push(format!(
            "write '{name}' if it is a text: \"{name}\" is a name"
        ));
    }
    match near {
        Some(name) => help.push(format!("did you mean '{name}'?")),
        None if names.is_empty() => {}
        None => help.push(format!("there are {}", listed(&names))),
    }
    help
}

fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(LISTED_NAMES) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..LISTED_NAMES].join(", ")),
    }
}

/// Help for a table that is not there.
fn similar_table(diagnostic: &Diagnostic, tables: &[String]) -> Option<String> {
    let wanted = diagnostic.message.strip_prefix("table '")?;
    let wanted = wanted.split('\'').next()?;
    let wanted = wanted.rsplit('.').next()?;
    let names = || tables.iter().map(String::as_str);
    // `users` is in `dim_users_current`, which is closer to what is meant than a similar name.
    let is_part = |name: &&str| name.split('_').any(|part| part == wanted);
    let mut parts: Vec<&str> = names().filter(is_part).collect();
    parts.sort_unstable();
    if let [first @ .., last] = &parts[..] {
        let parts = match first {
            [] => format!("'{last}'"),
            _ => format!("'{}' or '{last}'", first.join("', '")),
        };
        return Some(format!("did you mean {parts}?"));
    }
    match nearest(wanted, names()) {
        Some(name) => Some(format!("did you mean '{name}'?")),
        None => Some(format!("there are {}", tables.join(", "))),
    }
}

/// Help for a function that is not there.
fn similar_function(diagnostic: &Diagnostic) -> Option<String> {
    let wanted = diagnostic.message.strip_prefix("Invalid function '")?;
    let wanted = wanted.strip_suffix('\'')?;
    if let Some(equivalent) = equivalent(wanted) {
        return Some(format!("write {equivalent}"));
    }
    // The engine names the nearest one, however far it is.
    let note = &diagnostic.notes.first()?.message;
    let name = note
        .strip_prefix("Possible function '")?
        .strip_suffix('\'')?;
    nearest(wanted, [name].into_iter()).map(|name| format!("did you mean '{name}'?"))
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
