//! Serves a directory on a port until it is killed: `broker DIR PORT [NAME=VALUE ...]`. Prints its
//! address once clients can connect. Tests kill it in the middle of its work.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use ftap_embedded::{Broker, BrokerOptions};

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let data_dir = args
        .next()
        .context("first argument: the data directory")?
        .into();
    let port: u16 = args.next().context("second argument: the port")?.parse()?;
    let mut options = BrokerOptions {
        data_dir,
        addr: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        ..BrokerOptions::default()
    };
    for setting in args {
        let (name, value) = setting.split_once('=').context("settings are NAME=VALUE")?;
        match name {
            "segment_bytes" => options.segment_bytes = value.parse()?,
            "default_partitions" => options.default_partitions = value.parse()?,
            "retention_bytes" => options.retention_bytes = Some(value.parse()?),
            "retention_check_ms" => {
                options.retention_check_interval = Duration::from_millis(value.parse()?);
            }
            _ => bail!("unknown setting {name}"),
        }
    }
    let broker = Broker::start(options)?;
    println!("{}", broker.bootstrap());
    std::io::stdout().flush()?;
    loop {
        std::thread::park();
    }
}
