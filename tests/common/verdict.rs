//! What `ftap verify --json` says.

use std::fmt;
use std::process::Command;

use serde_json::Value;

/// Its exit code, its report and what it said beside it.
pub(crate) struct Verdict {
    /// Exit code.
    pub code: i32,
    /// The report; null if there is none.
    pub report: Value,
    pub stderr: String,
}

/// What a command said: the error that ended it as people would read it, the log as it is.
pub(crate) fn said(stderr: &str) -> String {
    let lines = stderr.lines().map(|line| {
        let parsed = serde_json::from_str(line).unwrap_or(Value::Null);
        failure(&parsed).unwrap_or_else(|| line.to_owned())
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text of the error that ends a command.
pub(crate) fn failure(line: &Value) -> Option<String> {
    let error = (line["event"] == "command_failed").then(|| line["error"].as_str())?;
    Some(format!("error: {}", error?))
}

impl Verdict {
    /// Runs the command to its end.
    pub(crate) fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code().unwrap_or(-1),
            report: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
            stderr: said(&String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// One of the figures over all partitions.
    pub(crate) fn total(&self, figure: &str) -> u64 {
        let value = &self.report["total"][figure];
        value
            .as_u64()
            .unwrap_or_else(|| panic!("no {figure}: {self}"))
    }

    /// All there, once.
    pub(crate) fn assert_exact(&self) {
        assert_eq!(self.code, 0, "{self}");
        for figure in ["missing", "doubled", "differing"] {
            assert_eq!(self.total(figure), 0, "{self}");
        }
        let account = self.total("lake") + self.total("rejected");
        assert_eq!(account, self.total("topic"), "{self}");
    }

    pub(crate) fn problems(&self, kind: &str) -> Vec<&Value> {
        let all = self.report["problems"].as_array();
        let all = all.unwrap_or_else(|| panic!("no report: {self}"));
        all.iter()
            .filter(|problem| problem["kind"] == kind)
            .collect()
    }

    /// The kinds of the problems, each once.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        let all = self.report["problems"].as_array();
        let all = all.unwrap_or_else(|| panic!("no report: {self}"));
        let mut kinds: Vec<_> = all
            .iter()
            .filter_map(|problem| problem["kind"].as_str())
            .collect();
        kinds.dedup();
        kinds
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ftap verify ended with {}: {:#} {}",
            self.code, self.report, self.stderr
        )
    }
}
