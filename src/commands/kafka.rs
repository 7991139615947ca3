//! `ftap kafka`: the embedded broker by itself, on a port, until stopped.

use anyhow::Context as _;

use crate::cli::KafkaArgs;
use crate::config::Config;
use crate::data_dir::make_writable;
use crate::exit;
use crate::kafka_access::KafkaAccess;
use crate::output;
use crate::signals;

/// Serves until a signal comes; the address is on stdout, for scripts.
pub(crate) fn execute(config: &Config, args: &KafkaArgs) -> anyhow::Result<u8> {
    make_writable(&config.data_dir, "DATA_DIR")?;
    let mut shutdown = signals::listen()?;
    let kafka = KafkaAccess::serve(config, args.port)?;
    output::print(&format!("{}\n", kafka.bootstrap()))?;
    tokio::runtime::Builder::new_current_thread()
        .build()
        .context("the process can't wait for signals")?
        .block_on(async move { shutdown.wait_for(|stop| *stop).await.is_ok() });
    drop(kafka);
    Ok(exit::DONE)
}
