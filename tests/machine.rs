//! A machine that is not fit: too few open files, a clock before 1970. One line, at once.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::common::clock::Clock;
use crate::common::process::Ftap;
use crate::common::{Lab, ROWS};

/// The lab's command under `ulimit` with these options.
fn limited(lab: &Lab, options: &str, args: &[&str]) -> Ftap {
    let ftap = lab.command(args);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit {options} && exec \"$0\" \"$@\"")])
        .arg(ftap.get_program())
        .args(ftap.get_args())
        .env_clear()
        .envs(
            ftap.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(ftap.get_current_dir().unwrap());
    Ftap::start(shell)
}

#[test]
fn too_low_a_limit_ends_every_command_at_once_with_one_line() {
    let lab = Lab::new("few-files").without_broker();
    for limit in [8, 12, 16, 24, 32, 48, 64, 100, 128] {
        for command in [
            "run", "produce", "consume", "batch", "cdc", "serve", "verify",
        ] {
            let ftap = limited(&lab, &format!("-n {limit}"), &[command]);
            let code = ftap.wait_at_most(Duration::from_secs(10)).code();
            let said = ftap.messages();
            assert_eq!(code, Some(2), "{limit}, {command}: {said}");
            assert_eq!(said.lines().count(), 1, "{limit}, {command}: {said}");
            for expected in [
                &format!("limit of open files is {limit},"),
                "needs 256",
                "`ulimit -n 4096`",
            ] {
                assert!(said.contains(expected), "{limit}, {command}: {said}");
            }
        }
    }
    assert!(!lab.path("data").exists());
}

#[test]
fn a_soft_limit_is_raised_and_the_lowest_one_is_enough() {
    let lab = Lab::new("enough-files");
    for options in ["-Sn 12", "-n 256"] {
        limited(&lab, options, &["run", "--until-drained"]).wait_for_success();
    }
    lab.assert_exact(ROWS);
}

#[test]
fn a_clock_before_1970_ends_every_command_with_one_line() {
    let lab = Lab::new("before-1970").without_broker();
    let Some(clock) = Clock::new(&lab) else {
        return;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    clock.jump_to(-(now.as_secs() as i64) - 86_400);
    for command in ["run", "consume", "batch", "serve", "config"] {
        let mut ftap = lab.command([command]);
        clock.wind(&mut ftap);
        let ftap = Ftap::start(ftap);
        assert_eq!(ftap.wait_at_most(Duration::from_secs(10)).code(), Some(1));
        let said = ftap.messages();
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("clock is 86"), "{said}");
        assert!(said.contains("before 1970: set it"), "{said}");
    }
}
