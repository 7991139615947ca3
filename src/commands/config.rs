//! `ftap config`: the settings in effect and where each came from.

use crate::cli::ConfigArgs;
use crate::config::{Config, Effective, Setting, show};
use crate::exit;
use crate::output;
use crate::{kafka_access, postgres_access};

/// Prints them; secrets are masked before they get here.
pub(crate) fn execute(config: &Config, args: &ConfigArgs) -> anyhow::Result<u8> {
    let is_used = |name: &str| {
        let command = args.command.as_deref();
        command.is_none_or(|command| Setting::find(name).is_some_and(|s| s.is_used_by(command)))
    };
    let settings = config
        .effective()
        .iter()
        .filter(|setting| is_used(setting.name));
    let settings: Vec<_> = settings.cloned().map(|s| with_address(config, s)).collect();
    output::print(&if args.json {
        format!("{:#}\n", show::json(&settings))
    } else {
        show::table(&settings)
    })?;
    Ok(exit::DONE)
}

/// Adds the address of an embedded service that another process runs.
fn with_address(config: &Config, mut setting: Effective) -> Effective {
    let address = match setting.name {
        "KAFKA_BROKER" if setting.value.is_none() => kafka_access::running_embedded(config),
        "POSTGRES_HOST" if setting.value.is_none() => {
            postgres_access::running(config).map(|it| format!("{}:{}", it.host, it.port))
        }
        _ => None,
    };
    if let Some(address) = address {
        setting.instead += &format!("; it is running at {address}");
    }
    setting
}
