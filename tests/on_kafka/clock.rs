//! A clock of the day that jumps stalls, loses and doubles nothing.
//!
//! Only the clock of `ftap` jumps, as its processes see it: what tells the time and what waits
//! until a time of day is replaced by `common/clock.c`, so waits already begun when the clock is
//! set back get longer, as they do on a real system. Not shown: what the same jump does to a
//! broker, and jumps by slewing. A jump ahead on Apache Kafka stays below its
//! `message.timestamp.after.max.ms`, an hour: it refuses messages from further in its future for
//! as long as the producer's clock is wrong.

use crate::common::clock::Clock;
use crate::common::process::Ftap;
use crate::common::{Lab, ROWS, real_kafka, speed_for};
use serde_json::Value;

const HOUR: i64 = 3600;

#[test]
fn a_clock_that_jumps_back_and_forth_stalls_loses_and_doubles_nothing() {
    let mut lab = Lab::new("clock");
    let Some(clock) = Clock::new(&lab) else {
        return;
    };
    // Nothing but age closes a file before the end.
    lab.set("GCS_FLUSH_SECONDS", "0.5");
    lab.set("PRODUCE_SPEED", speed_for(16));
    let start = |args: &[&str]| {
        let mut command = lab.command(args);
        clock.wind(&mut command);
        Ftap::start(command)
    };
    let kafka = real_kafka().is_some();
    let (reader, writer) = if kafka {
        (start(&["consume"]), Some(start(&["produce"])))
    } else {
        (start(&["run", "--until-drained"]), None)
    };
    let ahead = if kafka { HOUR / 2 } else { 24 * HOUR };
    for offset in [0, ahead, 0, -90, 0, -2 * HOUR, 0] {
        clock.jump_to(offset);
        // What was under way is not counted: each partition's next file, and the one after it.
        let files = reader.events("file_committed").len();
        reader.wait_for_events("file_committed", files + 6);
    }
    assert!(!reader.has_ended(), "all came at once: {}", reader.tail());
    if let Some(writer) = &writer {
        writer.wait_for_success();
        reader.wait_for("the rows in the lake", |lines| {
            let files = lines
                .iter()
                .filter(|line| line["event"] == "file_committed");
            let committed: u64 = files.filter_map(|file| file["rows"].as_u64()).sum();
            (committed >= ROWS).then_some(())
        });
        reader.signal(libc::SIGTERM);
    }
    reader.wait_for_success();
    for process in std::iter::once(&reader).chain(&writer) {
        assert_eq!(process.events("stage_failed"), [] as [Value; 0]);
        assert_eq!(process.events("group_restarting"), [] as [Value; 0]);
        assert_eq!(process.messages(), "");
    }
    let files = reader.events("file_committed");
    let time = |file: &Value| file["timestamp"].as_str().unwrap().to_owned();
    let back = files
        .windows(2)
        .filter(|pair| time(&pair[0]) > time(&pair[1]))
        .count();
    assert!(back >= 3, "the clock was set back {back} times only");
    lab.assert_exact(ROWS);
}
