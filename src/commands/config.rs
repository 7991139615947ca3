//! `ftap config`: the settings in effect and where each came from.

use crate::cli::ConfigArgs;
use crate::config::{Config, show};
use crate::exit;
use crate::output;

/// Prints them; secrets are masked before they get here.
pub fn execute(config: &Config, args: &ConfigArgs) -> anyhow::Result<u8> {
    let text = if args.json {
        format!("{:#}\n", show::json(config.effective()))
    } else {
        show::table(config.effective())
    };
    output::print(&text)?;
    Ok(exit::DONE)
}
