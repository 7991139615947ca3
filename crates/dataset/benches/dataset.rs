//! Speed of `generate` and `prepare` beside the plain writing and reading of the same bytes in the
//! same run, so that the ratios hold on a busy machine, too.
//!
//! `cargo bench -p ftap-dataset --bench dataset [-- ROWS]`

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use ftap_dataset::generate::{GenerateOptions, generate};
use ftap_dataset::prepare::prepare;

const ROUNDS: usize = 3;

fn main() {
    let rows = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(1_296_675);
    let dir = tempfile::tempdir().unwrap();
    let options = GenerateOptions {
        rows,
        seed: 1,
        bad_rows: 0,
    };
    let source = dir.path().join("credit_card_transactions.csv");
    let generating = best(|| {
        generate(&options, dir.path(), &mut |_| {}).unwrap();
    });
    let preparing = best(|| {
        prepare(&source, dir.path(), &mut |_, _| {}).unwrap();
    });
    // Before the file is held in memory for the plain ones.
    let peak_megabytes = peak_megabytes();
    let bytes = fs::read(&source).unwrap();
    let copy = dir.path().join("copy");
    let writing = best(|| {
        let mut file = File::create(&copy).unwrap();
        for chunk in bytes.chunks(256 * 1024) {
            file.write_all(chunk).unwrap();
        }
        file.sync_all().unwrap();
    });
    let reading = best(|| {
        let mut file = File::open(&source).unwrap();
        let mut buffer = vec![0; 256 * 1024];
        while file.read(&mut buffer).unwrap() > 0 {}
    });
    let megabytes = bytes.len() as f64 / 1e6;
    println!("{rows} rows, {megabytes:.0} MB, best of {ROUNDS}, peak memory {peak_megabytes} MB");
    let line = |name: &str, took: Duration, base: Duration| {
        let seconds = took.as_secs_f64();
        println!(
            "{name:<12} {seconds:>7.3} s {:>12.0} rows/s {:>8.0} MB/s {:>6.1} x the plain one",
            rows as f64 / seconds,
            megabytes / seconds,
            seconds / base.as_secs_f64(),
        );
    };
    line("plain write", writing, writing);
    line("generate", generating, writing);
    line("plain read", reading, reading);
    line("prepare", preparing, reading);
}

fn best(mut work: impl FnMut()) -> Duration {
    (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .min()
        .unwrap()
}

fn peak_megabytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}
