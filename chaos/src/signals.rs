//! SIGINT and SIGTERM ask the runner to end; long waits check this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// The runner was asked to end.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted: every process has been ended")
    }
}

impl std::error::Error for Interrupted {}

/// Whether a signal has come.
#[derive(Clone, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn listen(runtime: &Runtime) -> anyhow::Result<Self> {
        let interrupt = Self::default();
        let _inside = runtime.enter();
        for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
            let mut signals = signal(kind).context("signals can't be listened for")?;
            let came = interrupt.clone();
            runtime.spawn(async move {
                while signals.recv().await.is_some() {
                    came.0.store(true, SeqCst);
                }
            });
        }
        Ok(interrupt)
    }

    /// An error if a signal has come.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.0.load(SeqCst) {
            Err(Interrupted.into())
        } else {
            Ok(())
        }
    }

    /// Sleeps, unless a signal has come.
    pub(crate) fn sleep(&self, pause: Duration) -> anyhow::Result<()> {
        self.check()?;
        std::thread::sleep(pause);
        self.check()
    }
}
