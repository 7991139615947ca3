//! Progress of steps that take a while: a bar on a terminal, nothing elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::telemetry::Telemetry;

/// What a bar counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Rows,
    Bytes,
}

/// A bar for one step; hidden unless people watch. A total of 0 is not known yet.
pub(crate) fn bar(
    telemetry: &Telemetry,
    step: &'static str,
    total: u64,
    unit: Unit,
) -> ProgressBar {
    if !telemetry.interactive {
        return ProgressBar::hidden();
    }
    let figures = match unit {
        Unit::Rows => "{human_pos} of {human_len} rows",
        Unit::Bytes => "{bytes} of {total_bytes}",
    };
    let template =
        format!("{{msg:<9}} {{bar:12.cyan/dim}} {{percent:>3}} % {figures}  {{elapsed}}");
    let bar = telemetry.screen.bars().add(ProgressBar::new(total));
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("━╸─"));
    }
    bar.set_message(step);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
