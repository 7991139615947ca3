//! The plan of faults: what happens when.
//!
//! Promises: the same options and seed give the same plan; it holds at least as many kills and
//! zombies as [`Floor`] asks for, each kind spread over the whole time. Which process a fault
//! strikes is decided by `pick` among those that live at that moment. Pure.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::Serialize;

/// A moment of peace at the start.
const SETTLE_MS: u64 = 1_000;
const KILLS_PER_MINUTE: u64 = 16;
const ZOMBIES_PER_MINUTE: u64 = 4;
const BROKER_FAULTS_PER_MINUTE: u64 = 1;
const REBALANCES_PER_MINUTE: u64 = 4;
const STORE_FAULTS_PER_MINUTE: u64 = 5;
const POISONINGS_PER_MINUTE: u64 = 4;

/// What a run has to reach to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Floor {
    /// Processes killed with SIGKILL.
    pub kills: u64,
    /// Processes that came back after others had taken over their work.
    pub zombies: u64,
}

impl Floor {
    /// 40 kills and 5 zombies in 3 minutes, and in proportion, the fractions rounded up.
    pub(crate) fn of(minutes: f64) -> Self {
        let share = |in_three: f64| (in_three * minutes / 3.0).ceil() as u64;
        Self {
            kills: share(40.0),
            zombies: share(5.0),
        }
    }
}

/// How the store misbehaves for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoreFault {
    /// 503 to everything, nothing done.
    Unavailable,
    /// Puts are done, the answer is 503.
    UnavailableAfterCommit,
    /// 429 to every other request.
    TooManyRequests,
    /// Each request takes a while.
    Slow,
    /// Connections are cut in the middle of a body.
    Cut,
    /// Puts are done, the connection is cut before the answer.
    CutAfterCommit,
    /// Puts are refused with 503, and done all the same a while later.
    LateCommit,
    /// 401, as when a token has run out.
    TokenExpired,
    /// 412 to puts though there is no such object.
    PreconditionFailed,
    /// All of them at once, to some of the requests.
    Mixed,
}

const STORE_FAULTS: [StoreFault; 10] = [
    StoreFault::Unavailable,
    StoreFault::UnavailableAfterCommit,
    StoreFault::TooManyRequests,
    StoreFault::Slow,
    StoreFault::Cut,
    StoreFault::CutAfterCommit,
    StoreFault::LateCommit,
    StoreFault::TokenExpired,
    StoreFault::PreconditionFailed,
    StoreFault::Mixed,
];

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub(crate) enum Fault {
    /// SIGKILL to the producer.
    KillProducer,
    /// SIGKILL to one consumer.
    KillConsumer {
        /// Which of those that run, by remainder.
        pick: u32,
    },
    /// SIGKILL to two consumers at once.
    KillTwoConsumers {
        /// The first of them, by remainder.
        pick: u32,
    },
    /// SIGSTOP to a consumer with partitions; SIGCONT after others have taken them.
    FreezeConsumer {
        /// Which of those that have partitions, by remainder.
        pick: u32,
        /// How long it stays frozen after that.
        hold_ms: u64,
    },
    /// SIGSTOP to the producer; SIGCONT after its successor has taken over.
    FreezeProducer {
        /// How long it stays frozen after that.
        hold_ms: u64,
    },
    /// SIGKILL to the broker.
    KillBroker {
        /// How long it stays away.
        down_ms: u64,
    },
    /// SIGTERM to the broker.
    RestartBroker {
        /// How long it stays away.
        down_ms: u64,
    },
    /// One more consumer.
    AddConsumer,
    /// SIGTERM to a consumer, if another one stays.
    RemoveConsumer {
        /// Which of those that run, by remainder.
        pick: u32,
    },
    /// The store misbehaves.
    Store {
        how: StoreFault,
        /// How long.
        for_ms: u64,
        /// Of the dice that choose the requests.
        seed: u64,
    },
    /// Messages that can't become rows.
    Poison {
        /// How many.
        messages: u32,
        /// What they are made from.
        seed: u64,
    },
}

/// A fault and its moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Planned {
    /// After the start of the chaos.
    pub at_ms: u64,
    /// What is done then.
    #[serde(flatten)]
    pub fault: Fault,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Plan {
    /// What it was made from.
    pub seed: u64,
    /// How long the chaos lasts.
    pub length_ms: u64,
    /// What it promises.
    pub floor: Floor,
    /// In the order of time.
    pub faults: Vec<Planned>,
}

impl Plan {
    /// A plan for this many minutes; store faults only if the store can inject them.
    pub(crate) fn new(seed: u64, minutes: f64, with_store: bool) -> Self {
        let length_ms = (minutes * 60_000.0) as u64;
        let floor = Floor::of(minutes);
        let mut draft = Draft {
            random: ChaCha8Rng::seed_from_u64(seed),
            length_ms,
            faults: Vec::new(),
        };
        let many = |per_minute: u64| (per_minute as f64 * minutes).ceil() as u64;
        draft.spread(many(KILLS_PER_MINUTE).max(floor.kills), |_, random| {
            kill(random)
        });
        draft.spread(many(ZOMBIES_PER_MINUTE).max(floor.zombies), freeze);
        draft.spread(many(BROKER_FAULTS_PER_MINUTE), |index, random| {
            let down_ms = random.random_range(200..2_500);
            match index % 2 {
                0 => Fault::KillBroker { down_ms },
                _ => Fault::RestartBroker { down_ms },
            }
        });
        draft.spread(many(REBALANCES_PER_MINUTE), |index, random| {
            match index % 2 {
                0 => Fault::AddConsumer,
                _ => Fault::RemoveConsumer {
                    pick: random.random(),
                },
            }
        });
        if with_store {
            // All kinds in turn, so that a short run has seen most of them.
            let first = draft.random.random_range(0..STORE_FAULTS.len());
            draft.spread(many(STORE_FAULTS_PER_MINUTE), |index, random| {
                Fault::Store {
                    how: STORE_FAULTS[(first + index as usize) % STORE_FAULTS.len()],
                    for_ms: random.random_range(500..5_000),
                    seed: random.random(),
                }
            });
        }
        draft.spread(many(POISONINGS_PER_MINUTE), |_, random| Fault::Poison {
            messages: random.random_range(1..30),
            seed: random.random(),
        });
        draft.faults.sort_by_key(|planned| planned.at_ms);
        Self {
            seed,
            length_ms,
            floor,
            faults: draft.faults,
        }
    }
}

fn kill(random: &mut ChaCha8Rng) -> Fault {
    let pick = random.random();
    match random.random_range(0..20) {
        0..7 => Fault::KillProducer,
        7..17 => Fault::KillConsumer { pick },
        _ => Fault::KillTwoConsumers { pick },
    }
}

/// Every third zombie is a producer. Half of them come back at the moment of the takeover, when
/// they may still be first to write what their successor is reading.
fn freeze(index: u64, random: &mut ChaCha8Rng) -> Fault {
    let pick = random.random();
    let hold_ms = if random.random() {
        random.random_range(0..100)
    } else {
        random.random_range(100..2_500)
    };
    match index % 3 {
        1 => Fault::FreezeProducer { hold_ms },
        _ => Fault::FreezeConsumer { pick, hold_ms },
    }
}

struct Draft {
    random: ChaCha8Rng,
    length_ms: u64,
    faults: Vec<Planned>,
}

impl Draft {
    /// One fault at a random moment of each of `count` equal spans.
    fn spread(&mut self, count: u64, mut make: impl FnMut(u64, &mut ChaCha8Rng) -> Fault) {
        let span = self.length_ms.saturating_sub(SETTLE_MS) as f64 / count.max(1) as f64;
        for index in 0..count {
            let within = index as f64 + self.random.random::<f64>();
            let at_ms = SETTLE_MS + (within * span) as u64;
            let fault = make(index, &mut self.random);
            self.faults.push(Planned { at_ms, fault });
        }
    }
}

/// What is done in addition when the floor was not reached in time.
pub(crate) struct Extra(ChaCha8Rng);

impl Extra {
    /// Another stream of the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(1);
        Self(random)
    }

    /// One more kill.
    pub(crate) fn kill(&mut self) -> Fault {
        kill(&mut self.0)
    }

    /// One more zombie.
    pub(crate) fn freeze(&mut self) -> Fault {
        freeze(0, &mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_one_another() {
        assert_eq!(Plan::new(7, 3.0, true), Plan::new(7, 3.0, true));
        assert_ne!(Plan::new(7, 3.0, true), Plan::new(8, 3.0, true));
    }

    #[test]
    fn every_plan_holds_its_floor() {
        assert_eq!((Floor::of(3.0).kills, Floor::of(3.0).zombies), (40, 5));
        for seed in 0..200 {
            for minutes in [0.1, 0.5, 1.0, 3.0, 30.0] {
                let plan = Plan::new(seed, minutes, seed % 2 == 0);
                let count = |wanted: fn(&Fault) -> bool| {
                    let found = plan.faults.iter().filter(|planned| wanted(&planned.fault));
                    found.count() as u64
                };
                let kills = count(|fault| {
                    matches!(
                        fault,
                        Fault::KillProducer
                            | Fault::KillConsumer { .. }
                            | Fault::KillTwoConsumers { .. }
                    )
                });
                let zombies = count(|fault| {
                    matches!(
                        fault,
                        Fault::FreezeConsumer { .. } | Fault::FreezeProducer { .. }
                    )
                });
                assert!(kills >= plan.floor.kills, "{seed} {minutes}");
                assert!(zombies >= plan.floor.zombies, "{seed} {minutes}");
                assert!(
                    plan.faults.is_sorted_by_key(|planned| planned.at_ms),
                    "{seed}"
                );
            }
        }
    }
}
