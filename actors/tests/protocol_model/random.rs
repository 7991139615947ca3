//! Long random schedules through the same models: longer logs, more writers and more faults
//! than can be explored to the end; more of them with `PROPTEST_CASES`. A failure prints the
//! shrunk schedule.

use std::sync::Arc;

use ftap_testing::model::{Checked, Machine};
use proptest::prelude::*;

use super::ingest::{Faults, Ingest};
use super::publish::{Publish, PublishRules};
use super::world::{Rules, World};

fn follow<M: Machine>(model: &Checked<M>, choices: &[u16]) -> Result<(), String> {
    let machine = &model.machine;
    let mut state = machine.first();
    let mut schedule = Vec::new();
    let mut actions = Vec::new();
    for choice in choices {
        actions.clear();
        machine.possible(&state, &mut actions);
        let Some(action) = actions.get(usize::from(*choice) % actions.len().max(1)) else {
            break;
        };
        schedule.push(*action);
        state = machine.next(&state, *action);
        if let Some((name, _)) = M::safety()
            .iter()
            .find(|(_, holds)| !holds(machine, &state))
        {
            return Err(format!("not so: {name}, after {schedule:?}\n{state:?}"));
        }
    }
    if model.reaches_the_end(&state) {
        Ok(())
    } else {
        Err(format!(
            "the end is not reached after {schedule:?}\n{state:?}"
        ))
    }
}

fn schedules() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 100..600)
}

fn long(rules: Rules) -> Checked<Ingest> {
    Checked::new(Ingest {
        world: Arc::new(World::new(&rules, 30, 1, 4)),
        rules,
        writers: 3,
        first_end: 3,
        faults: Faults {
            crashes: 6,
            zombies: 6,
            revocations: 6,
            lost_replies: 10,
            resets: 2,
            retentions: 20,
            remakes: 0,
        },
    })
}

fn run<M: Machine>(model: &Checked<M>) {
    let mut config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    config.cases = config.cases.max(5000);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&schedules(), |choices| {
        follow(model, &choices).map_err(TestCaseError::fail)
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

#[test]
fn long_random_schedules_of_three_writers_lose_and_double_nothing() {
    run(&long(Rules::default()));
}

#[test]
fn long_random_schedules_of_publishers_lose_and_double_nothing() {
    run(&Checked::new(Publish::new(PublishRules::default())));
}
