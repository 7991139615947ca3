//! SIGINT and SIGTERM: the first asks to flush and stop, the second ends the process at once.
//!
//! Promises that the process is gone within ten seconds of the first signal, whatever hangs. A
//! thread of its own listens, so that a busy or blocked runtime does not delay it.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use ftap_telemetry::events::{ShutdownRequested, Speaker};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::{exit, terminal};

/// Below the ten seconds that `docker stop` waits before it kills.
const HARD_STOP: Duration = Duration::from_millis(9_500);
/// A second signal that comes sooner is the same one again: `timeout` and some shells send it to the
/// process and to its group.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Starts listening; the receiver turns true when the process is to stop.
pub(crate) fn listen() -> anyhow::Result<watch::Receiver<bool>> {
    let (stop, receiver) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the signal listener can't be started")?;
    let (mut interrupts, mut terminations) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::interrupt()).context("SIGINT can't be listened for")?,
            signal(SignalKind::terminate()).context("SIGTERM can't be listened for")?,
        )
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async move {
                let reason = tokio::select! {
                    _ = interrupts.recv() => "SIGINT",
                    _ = terminations.recv() => "SIGTERM",
                };
                let reason = reason.to_owned();
                ShutdownRequested { reason }.emit(Speaker::PROCESS);
                // Without a listener the process is ending anyway.
                let _ = stop.send(true);
                let since = Instant::now();
                let hard_stop = tokio::time::sleep(HARD_STOP);
                tokio::pin!(hard_stop);
                loop {
                    tokio::select! {
                        _ = interrupts.recv() => {}
                        _ = terminations.recv() => {}
                        () = &mut hard_stop => {
                            let text = "stopping took too long, the rest is left behind; nothing is lost, the next run continues from the last file in the lake";
                            end_at_once(exit::report(&anyhow::anyhow!(text)));
                        }
                    }
                    if since.elapsed() >= SAME_SIGNAL {
                        end_at_once(exit::INTERRUPTED);
                    }
                }
            });
        })
        .context("the signal listener can't be started")?;
    Ok(receiver)
}

/// Ends the process without dropping anything but its grip on the terminal.
fn end_at_once(code: u8) -> ! {
    terminal::restore();
    exit::now(code)
}
