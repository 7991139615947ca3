//! The delivery protocol under a model checker: every order of steps, crashes, lost replies,
//! zombies, rebalances, resets and retention, within a budget of each.
//!
//! The models call the program's own rules. Safety is checked in every reachable state.
//! Liveness too: from every reachable state a run without further faults must reach the
//! log's end. That run is one fair schedule, not all of them; stateright's `eventually` is
//! not used because it overlooks paths that end in a cycle. A rule that is broken on purpose
//! must be caught.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod ingest;
mod publish;
mod random;
mod world;

use std::sync::Arc;

use ftap_lake::{Adoption, ObjectName, Start, start_offset};
use ftap_testing::model::{catches, holds};
use ingest::{Faults, Ingest};
use publish::{Publish, PublishRules};
use world::{Rules, TOPIC, World};

fn ingest(rules: Rules, records: i64, lives: u8, faults: Faults) -> Ingest {
    Ingest {
        world: Arc::new(World::new(&rules, records, lives, 3)),
        rules,
        writers: 2,
        first_end: 2,
        faults,
    }
}

#[test]
fn crashes_and_lost_replies_lose_and_double_nothing() {
    let faults = Faults {
        crashes: 1,
        lost_replies: 1,
        ..Faults::default()
    };
    holds("crash, lost reply", ingest(Rules::default(), 4, 1, faults));
}

#[test]
fn zombies_and_rebalances_lose_and_double_nothing() {
    let zombie = Faults {
        zombies: 1,
        ..Faults::default()
    };
    holds("zombie", ingest(Rules::default(), 4, 1, zombie));
    let revoked = Faults {
        revocations: 1,
        ..Faults::default()
    };
    holds("rebalance", ingest(Rules::default(), 4, 1, revoked));
}

#[test]
fn a_zombie_a_crash_and_a_third_writer_lose_and_double_nothing() {
    let faults = Faults {
        zombies: 1,
        crashes: 1,
        ..Faults::default()
    };
    let mut model = ingest(Rules::default(), 2, 1, faults);
    model.writers = 3;
    holds("three writers", model);
}

#[test]
fn what_resets_and_retention_skip_is_reported_and_nothing_else() {
    let faults = Faults {
        crashes: 1,
        resets: 1,
        retentions: 2,
        ..Faults::default()
    };
    let mut model = ingest(Rules::default(), 5, 1, faults);
    model.writers = 1;
    model.first_end = 5;
    holds("reset, retention", model);
}

#[test]
fn a_recreated_topic_is_refused_and_nothing_is_overwritten() {
    let faults = Faults {
        crashes: 1,
        remakes: 1,
        ..Faults::default()
    };
    let mut model = ingest(Rules::default(), 4, 2, faults);
    model.writers = 1;
    holds("topic recreated", model);
}

/// Enough for any single broken rule to show.
fn broken(change: impl FnOnce(&mut Rules), faults: Faults) -> Ingest {
    let mut rules = Rules::default();
    change(&mut rules);
    ingest(rules, 5, 1, faults)
}

const ZOMBIE: Faults = Faults {
    zombies: 1,
    crashes: 0,
    revocations: 0,
    lost_replies: 0,
    resets: 0,
    retentions: 0,
    remakes: 0,
};

#[test]
fn a_key_that_depends_on_the_last_offset_is_caught() {
    let change = |rules: &mut Rules| {
        rules.key = |_, last, timestamp| ObjectName::new(TOPIC, 0, last, timestamp).unwrap();
    };
    catches("key by last offset", broken(change, ZOMBIE));
}

#[test]
fn a_commit_before_the_put_is_caught() {
    let change = |rules: &mut Rules| rules.commit_after_put = false;
    catches("commit before put", broken(change, Faults::default()));
}

#[test]
fn a_start_that_ignores_the_lake_is_caught() {
    let change = |rules: &mut Rules| {
        rules.start = |committed, _, start, end| {
            let start = start_offset(committed, None, start, end)?;
            Ok(Start {
                skipped: None,
                ..start
            })
        };
    };
    let faults = Faults {
        crashes: 1,
        resets: 1,
        ..Faults::default()
    };
    catches("start by committed offset only", broken(change, faults));
}

#[test]
fn an_object_that_exists_taken_for_success_is_caught() {
    let change = |rules: &mut Rules| rules.exists = |_, _| Ok(Adoption::Same);
    catches("footer not read", broken(change, ZOMBIE));
}

#[test]
fn a_put_that_overwrites_is_caught() {
    let change = |rules: &mut Rules| rules.create_only = false;
    catches("put overwrites", broken(change, ZOMBIE));
}

#[test]
fn a_put_that_does_not_wait_for_the_dead_letters_is_caught() {
    let change = |rules: &mut Rules| rules.put_after_rejections = false;
    catches("put before dead letters", broken(change, Faults::default()));
}

#[test]
fn a_file_of_a_reading_that_ended_is_caught() {
    let change = |rules: &mut Rules| rules.readings_end = false;
    let faults = Faults {
        revocations: 1,
        ..Faults::default()
    };
    catches("stale file put", broken(change, faults));
}

#[test]
fn the_late_answer_to_an_earlier_question_is_caught() {
    let change = |rules: &mut Rules| {
        rules.latest_answer = false;
        // The skip it reports is none, so what is assumed of skips does not apply.
        rules.no_sleepers = false;
    };
    let faults = Faults {
        revocations: 2,
        ..Faults::default()
    };
    let mut model = broken(change, faults);
    model.world = Arc::new(World::new(&model.rules, 1, 1, 1));
    model.first_end = 1;
    catches("late answer of the lake", model);
}

#[test]
fn an_answer_beside_a_put_under_way_is_caught() {
    let faults = Faults {
        revocations: 1,
        retentions: 2,
        ..Faults::default()
    };
    let model = |answers_after_puts| {
        let mut model = broken(
            |rules| rules.answers_after_puts = answers_after_puts,
            faults,
        );
        model.writers = 1;
        model
    };
    catches("answer beside a put", model(false));
    holds("answer after the put", model(true));
}

/// The limit of the promise, see docs/RELIABILITY.md: nothing in the lake can tell a writer
/// that slept through a skip that its boundary is no longer one.
#[test]
fn a_sleeper_behind_a_skip_would_double_rows() {
    let change = |rules: &mut Rules| rules.no_sleepers = false;
    let faults = Faults {
        retentions: 1,
        ..ZOMBIE
    };
    let mut model = broken(change, faults);
    model.first_end = 2;
    catches("a sleeper outlives retention", model);
}

#[test]
fn publishers_put_each_row_into_the_topic_once_and_in_order() {
    holds("publish", Publish::new(PublishRules::default()));
}

#[test]
fn a_publisher_without_fencing_is_caught() {
    let rules = PublishRules {
        fences: false,
        ..PublishRules::default()
    };
    catches("no fencing", Publish::new(rules));
}

#[test]
fn a_tail_read_before_fencing_is_caught() {
    let rules = PublishRules {
        fence_first: false,
        ..PublishRules::default()
    };
    catches("tail read before fencing", Publish::new(rules));
}

#[test]
fn a_foreign_message_that_hides_the_tail_is_caught() {
    let rules = PublishRules {
        foreign_hides_tail: true,
        ..PublishRules::default()
    };
    catches("foreign message hides tail", Publish::new(rules));
}

#[test]
fn a_row_at_the_tail_that_is_sent_again_is_caught() {
    let rules = PublishRules {
        lacks: |resume, partition, row| row == 0 || resume.lacks(partition, row - 1),
        ..PublishRules::default()
    };
    catches("tail's row sent again", Publish::new(rules));
}
