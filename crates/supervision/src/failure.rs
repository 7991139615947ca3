//! Why a stage failed, whether a restart can help, and what to do.
//!
//! Each domain lists its kinds of failure in an enum that implements [`FailureKind`]: one table a
//! domain, which is all that supervision knows of it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use ftap_telemetry::{chain, with_causes};

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Waiting can help: retry for as long as it takes.
    Transient,
    /// As `Transient`, but not soon: a quota must refill first.
    Later,
    /// A few tries may help, such as with a new token; after them the failure is permanent.
    Briefly,
    /// Something must be changed first.
    Permanent,
}

impl Retry {
    /// Whether another try is worthwhile at all.
    pub fn helps(self) -> bool {
        self != Self::Permanent
    }
}

/// What is known of a kind of failure: one entry of its domain's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Unique among all domains.
    pub name: &'static str,
    /// The part of the system, in lower case, for logs.
    pub domain: &'static str,
    pub retry: Retry,
    /// What the user can do about it.
    pub remedy: &'static str,
}

/// A domain's kinds of failure.
pub trait FailureKind {
    /// The kind's entry in the domain's table.
    fn entry(self) -> Entry;
}

/// Supervision's own kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Internal {
    /// A neighbour in the group is gone; its own fault is the root cause.
    NeighbourGone,
    /// A test asked for it.
    Injected,
    /// A fault of the program.
    Bug,
}

impl FailureKind for Internal {
    fn entry(self) -> Entry {
        Entry {
            name: match self {
                Self::NeighbourGone => "neighbour_gone",
                Self::Injected => "injected",
                Self::Bug => "bug",
            },
            domain: "internal",
            retry: Retry::Transient,
            remedy: "see the root cause in the log; if it is a fault of ftap, please report it",
        }
    }
}

/// An error that ends a stage. Its text is the context followed by the causes, see [`chain`].
#[derive(Clone, Debug)]
pub struct Failure {
    entry: Entry,
    /// Empty if the source says it all.
    context: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl Failure {
    /// A failure whose context names the thing and its value.
    pub fn new(kind: impl FailureKind, context: impl Into<String>) -> Self {
        Self {
            entry: kind.entry(),
            context: context.into(),
            source: None,
        }
    }

    /// A failure that an error describes completely.
    pub fn from_error(kind: impl FailureKind, source: impl Error + Send + Sync + 'static) -> Self {
        Self::new(kind, "").caused_by(source)
    }

    /// Adds the error behind it.
    #[must_use]
    pub fn caused_by(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..self
        }
    }

    pub fn entry(&self) -> Entry {
        self.entry
    }

    pub fn is(&self, kind: impl FailureKind) -> bool {
        self.entry == kind.entry()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            None => f.write_str(&self.context),
            Some(source) if self.context.is_empty() => f.write_str(&chain(source.as_ref())),
            Some(source) => f.write_str(&with_causes(self.context.clone(), Some(source.as_ref()))),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Outer {
        text: &'static str,
        source: io::Error,
    }

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.text)
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.source)
        }
    }

    fn outer(text: &'static str) -> Outer {
        let source = io::Error::other("disk full");
        Outer { text, source }
    }

    #[test]
    fn a_failure_keeps_its_causes_and_prints_each_once() {
        let silent = Failure::new(Internal::Bug, "writing a").caused_by(outer("can't write"));
        let quoting =
            Failure::new(Internal::Bug, "writing a").caused_by(outer("disk full, can't write"));
        let transparent = Failure::from_error(Internal::Bug, outer("can't write"));
        for (failure, text) in [
            (silent, "writing a: can't write: disk full"),
            (quoting, "writing a: disk full, can't write"),
            (transparent, "can't write: disk full"),
            (Failure::new(Internal::Bug, "alone"), "alone"),
        ] {
            assert_eq!(failure.to_string(), text);
            assert_eq!(chain(&failure), text, "its own text has the causes");
            let root = std::iter::successors(failure.source(), |cause| (*cause).source()).last();
            assert_eq!(
                root.is_some_and(|root| root.is::<io::Error>()),
                text != "alone"
            );
        }
    }

    #[test]
    fn kinds_are_distinguished_by_their_entries() {
        let failure = Failure::new(Internal::Injected, "failpoint");
        assert!(failure.is(Internal::Injected) && !failure.is(Internal::Bug));
        assert!(failure.entry().retry.helps() && !Retry::Permanent.helps());
    }
}
