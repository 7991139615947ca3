//! Exit codes, and the errors that decide them.

use std::fmt;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::telemetry;

pub(crate) const DONE: u8 = 0;
/// A stage stopped with an error, or a command failed.
pub(crate) const GAVE_UP: u8 = 1;
/// Bad usage or settings.
pub(crate) const BAD_USAGE: u8 = 2;
/// Ended by a second signal.
pub(crate) const INTERRUPTED: u8 = 130;

/// The user has to change the command line or a setting: exit code 2.
#[derive(Debug)]
pub(crate) struct BadUsage(pub String);

impl fmt::Display for BadUsage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadUsage {}

/// The reader of the output is gone, so nothing can be reported.
#[derive(Debug)]
pub(crate) struct OutputClosed;

impl fmt::Display for OutputClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the output was closed")
    }
}

impl std::error::Error for OutputClosed {}

/// Ends the process at once, with what was flushed: nothing that threads of libraries still use is taken down under them,
/// as by the handlers of libc's `exit`, and neither a second thread that ends the process nor one that waits for a reader
/// of the output holds this one up.
pub(crate) fn now(code: u8) -> ! {
    // SAFETY: it ends the process and returns nothing.
    unsafe { libc::_exit(code.into()) }
}

/// Whether every line of stderr is JSON.
static IS_JSON: AtomicBool = AtomicBool::new(false);

/// From now on errors are lines of JSON.
pub(crate) fn report_as_json() {
    IS_JSON.store(true, Relaxed);
}

/// The command line can't be understood, or asks for help.
#[expect(clippy::print_stderr, reason = "the last word to the user")]
pub(crate) fn usage(error: &clap::Error) -> u8 {
    if IS_JSON.load(Relaxed) && error.use_stderr() {
        let text = error.to_string();
        let text = text.trim_start_matches("error: ").trim_end();
        eprint!("{}", telemetry::failure_line(text, BAD_USAGE));
        return BAD_USAGE;
    }
    // The reader of the help may be gone.
    let _ = error.print().and_then(|()| std::io::stdout().flush());
    if error.use_stderr() { BAD_USAGE } else { DONE }
}

/// Tells the user about an error and gives the exit code it stands for.
#[expect(clippy::print_stderr, reason = "the last word to the user")]
pub(crate) fn report(error: &anyhow::Error) -> u8 {
    if error.is::<OutputClosed>() {
        return DONE;
    }
    let code = if error.is::<BadUsage>() || error.is::<crate::config::ConfigError>() {
        BAD_USAGE
    } else {
        GAVE_UP
    };
    let text = ftap_telemetry::chain(error.as_ref());
    if IS_JSON.load(Relaxed) {
        eprint!("{}", telemetry::failure_line(&text, code));
    } else {
        eprintln!("error: {text}");
    }
    code
}
