//! `ftap health`: asks the process that serves DASHBOARD_ADDR whether it is alive, or ready.
//!
//! For container images, which have no other HTTP client. Exit code 0 for yes, 1 for no; the two
//! addresses that it asks take no token, so none is sent.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cli::HealthArgs;
use crate::config::Config;
use crate::exit::{self, BadUsage};
use crate::output;

const TIMEOUT: Duration = Duration::from_secs(3);
/// Enough for the first line, which is all that counts.
const MAX_ANSWER_BYTES: u64 = 4096;

/// Asks once.
pub(crate) fn execute(config: &Config, args: &HealthArgs) -> anyhow::Result<u8> {
    let addr = match config.dashboard_addr {
        Some(addr) if addr.port() != 0 => to_ask(addr),
        _ => {
            return Err(BadUsage(
                "DASHBOARD_ADDR is `off` or has port 0, so there is nothing to ask: set it to the address of the process to check".to_owned(),
            )
            .into());
        }
    };
    let path = if args.ready { "/readyz" } else { "/healthz" };
    let status = ask(addr, path).with_context(|| format!("http://{addr}{path} does not answer"))?;
    if status != 200 {
        bail!("http://{addr}{path} answers {status}");
    }
    output::print(if args.ready { "ready\n" } else { "alive\n" })?;
    Ok(exit::DONE)
}

/// A process that listens on all addresses is asked on this machine's own.
fn to_ask(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

fn ask(addr: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .context("it is not an HTTP server")
}
