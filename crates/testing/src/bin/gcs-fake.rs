//! The test server by hand: prints its address, serves until it is interrupted, then prints
//! what it was asked.

#![allow(clippy::print_stderr, clippy::print_stdout)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ftap_testing::gcs::{Options, Rule, Server};

/// A test server that speaks the part of Google Cloud Storage's XML API that ftap's lake uses.
/// No credentials are checked; for this machine only.
#[derive(Parser)]
struct Arguments {
    /// Port on 127.0.0.1; 0 takes a free one.
    #[arg(long, default_value_t = 4443)]
    port: u16,
    /// Keeps the objects as files by key in this folder; else in memory.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Name of its bucket.
    #[arg(long, default_value = "lake")]
    bucket: String,
    /// Most items on a page of a listing.
    #[arg(long, default_value_t = 1000)]
    page_items: usize,
    /// A fault: OPERATION[@KEY]:TIMES:FAULT, such as `put:next=3:status=503`,
    /// `any:one-in=10/7:commit-then-cut`, `list:always:delay=250`; may be given several times.
    #[arg(long = "rule")]
    rules: Vec<Rule>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options {
        bucket: arguments.bucket,
        data_dir: arguments.dir,
        port: arguments.port,
        page_items: arguments.page_items.max(1),
        ..Options::default()
    };
    let server = match Server::start(options).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("the server can't be started: {error}; try another --port or --dir");
            return ExitCode::FAILURE;
        }
    };
    server.set_rules(arguments.rules);
    println!(
        "GCS_ENDPOINT={} GCS_BUCKET_NAME={}",
        server.endpoint(),
        server.bucket()
    );
    if let Err(error) = tokio::signal::ctrl_c().await {
        eprintln!("can't wait for an interrupt: {error}");
    }
    println!("{:#?}", server.counts());
    ExitCode::SUCCESS
}
