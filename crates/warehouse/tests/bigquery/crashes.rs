//! Loaders that end anywhere and several at once.

use std::time::Duration;

use ftap_testing::bigquery::{Fault, Operation, Rule};
use ftap_warehouse::load::Depth;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::place::Place;

/// Passes are dropped at random moments, which is what a kill looks like from outside: what was
/// sent may be done, what was not sent never is. Two loaders at once, faults by chance.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_loaders_that_end_anywhere_load_each_object_once() {
    for seed in 0..12 {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut place = Place::new().await;
        place.settings.policy.max_objects = dice.random_range(1..6);
        place.settings.policy.manifests_a_summary = dice.random_range(1..5);
        let mut written = 0;
        for _ in 0..12 {
            let more = dice.random_range(0..4);
            place.write_fx(written, more).await;
            written += more;
            place.bigquery.set_rules(random_rules(&mut dice));
            let one = short_life(&place, dice.random_range(0..60));
            let other = short_life(&place, dice.random_range(0..60));
            tokio::join!(one, other);
        }
        place.bigquery.set_rules(Vec::new());
        place.drain().await.unwrap();
        place.assert_loaded_once("fx_rates", &format!("seed {seed}"));
        assert_eq!(
            place.bigquery.rows("fx_rates"),
            4 * written as u64,
            "seed {seed}"
        );
    }
}

fn random_rules(dice: &mut StdRng) -> Vec<Rule> {
    let faults = [
        Fault::CommitThenCut,
        Fault::CommitThenRefuse(503),
        Fault::JobFails("backendError", "try again"),
        Fault::SlowJob(Duration::from_millis(dice.random_range(0..60))),
        Fault::HiddenJob(Duration::from_millis(dice.random_range(0..30))),
        Fault::Cut,
    ];
    let mut rules = Vec::new();
    for fault in faults {
        if dice.random_ratio(1, 3) {
            let times = dice.random_range(1..3);
            rules.push(Rule::next(Operation::Submit, times, fault));
        }
    }
    rules
}

async fn short_life(place: &Place, milliseconds: u64) {
    let mut loader = place.loader().await;
    let life = async {
        loop {
            let _ = loader.pass(Depth::Full).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(milliseconds), life).await;
}

/// The other way round: no loader dies, and all want the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_loaders_at_once_agree() {
    let mut place = Place::new().await;
    place.settings.policy.max_objects = 3;
    place.write_fx(0, 20).await;
    let place = &place;
    let loads = (0..5).map(|_| async { place.drain().await.unwrap() });
    futures::future::join_all(loads).await;
    place.assert_loaded_once("fx_rates", "five at once");
    let jobs = place.bigquery.jobs();
    assert_eq!(jobs.len(), 7, "{jobs:?}");
}
