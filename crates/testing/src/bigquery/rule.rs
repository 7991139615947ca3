//! Which requests fail, and how. Rules are asked in their order; the first that strikes counts.

use std::time::Duration;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Each of the others.
    Any,
    /// Look at the dataset.
    GetDataset,
    CreateDataset,
    /// Look at a table.
    GetTable,
    CreateTable,
    /// Submit a load job.
    Submit,
    /// Ask about a job.
    GetJob,
    /// Count rows.
    Query,
}

/// What happens instead of the usual.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status and reason, and nothing is done.
    Refuse(u16, &'static str),
    /// The request is done, then answered with this status.
    CommitThenRefuse(u16),
    /// The request is done, then the connection is cut without an answer.
    CommitThenCut,
    /// The connection is cut before anything is done.
    Cut,
    /// No answer until the client times out; nothing is done.
    Hang,
    /// This status with a web page, as a proxy gives it; nothing is done.
    WebPage(u16),
    /// The job is made and ends in this error, with reason and message.
    JobFails(&'static str, &'static str),
    /// The job is made and takes so long.
    SlowJob(Duration),
    /// The job is made, and is not found when it is asked about for so long.
    HiddenJob(Duration),
    /// The job says that it loaded a row more than it did.
    Miscounts,
}

/// A fault and the requests that it strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub(crate) on: Operation,
    pub(crate) left: u32,
    pub(crate) fault: Fault,
}

impl Rule {
    /// Strikes the next `times` requests of that kind.
    pub fn next(on: Operation, times: u32, fault: Fault) -> Self {
        Self {
            on,
            left: times,
            fault,
        }
    }

    /// Strikes each request of that kind.
    pub fn always(on: Operation, fault: Fault) -> Self {
        Self::next(on, u32::MAX, fault)
    }
}

/// The fault that strikes a request.
pub(crate) fn fate(rules: &mut [Rule], operation: Operation) -> Option<Fault> {
    let fits =
        |rule: &&mut Rule| rule.left > 0 && (rule.on == Operation::Any || rule.on == operation);
    let rule = rules.iter_mut().find(fits)?;
    if rule.left != u32::MAX {
        rule.left -= 1;
    }
    Some(rule.fault.clone())
}
