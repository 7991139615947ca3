//! Results on stdout.

use std::io::{self, Write};

use crate::exit::OutputClosed;

/// Writes to stdout. A reader that has gone (`| head`) ends the command quietly, see
/// [`OutputClosed`].
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(OutputClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("stdout can't be written")),
    }
}
