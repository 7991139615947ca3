//! Runs a protocol as a state machine through stateright, and says what was seen.

#![allow(clippy::print_stdout)]

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use parking_lot::Mutex;
use stateright::{Checker, HasDiscoveries, Model, Property};

const FAIR_STEPS: usize = 2_000;

/// The name of the liveness property.
pub const LIVE: &str = "without faults the end is reached";

/// Name and truth of each safety property.
pub type Safety<M> = Vec<(&'static str, fn(&M, &<M as Machine>::State) -> bool)>;

/// A fair run that is stuck before its end.
#[derive(Clone, Copy, Debug)]
pub struct Stuck;

/// A protocol as a state machine.
pub trait Machine: Sized + Send + Sync + 'static {
    type State: Clone + Debug + PartialEq + Hash + Send + Sync + 'static;
    type Action: Copy + Debug + PartialEq + Send + Sync + 'static;
    fn first(&self) -> Self::State;
    fn possible(&self, state: &Self::State, actions: &mut Vec<Self::Action>);
    fn next(&self, state: &Self::State, action: Self::Action) -> Self::State;
    fn safety() -> Safety<Self>;
    /// One step of the fair run: `None` at its end.
    fn fair(&self, state: &Self::State) -> Result<Option<Self::State>, Stuck>;
}

/// A machine for the checker; remembers from which states the end is reached.
pub struct Checked<M> {
    pub machine: M,
    checks_end: bool,
    good: Mutex<HashSet<u64>>,
}

impl<M: Machine> Checked<M> {
    pub fn new(machine: M) -> Self {
        Self {
            machine,
            checks_end: true,
            good: Mutex::default(),
        }
    }

    /// Without the liveness property, which would show before the harm that is looked for.
    fn safety_only(machine: M) -> Self {
        Self {
            checks_end: false,
            ..Self::new(machine)
        }
    }

    /// The fair run joins one that is known to be good, or is followed to its end.
    pub fn reaches_the_end(&self, state: &M::State) -> bool {
        let mut seen = Vec::new();
        let mut state = state.clone();
        for _ in 0..FAIR_STEPS {
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            let hash = hasher.finish();
            if self.good.lock().contains(&hash) {
                break;
            }
            seen.push(hash);
            match self.machine.fair(&state) {
                Ok(Some(next)) => state = next,
                Ok(None) => break,
                Err(Stuck) => return false,
            }
        }
        let ended = seen.len() < FAIR_STEPS;
        if ended {
            self.good.lock().extend(seen);
        }
        ended
    }
}

impl<M: Machine> Model for Checked<M> {
    type State = M::State;
    type Action = M::Action;

    fn init_states(&self) -> Vec<M::State> {
        vec![self.machine.first()]
    }

    fn actions(&self, state: &M::State, actions: &mut Vec<M::Action>) {
        self.machine.possible(state, actions);
    }

    fn next_state(&self, state: &M::State, action: M::Action) -> Option<M::State> {
        Some(self.machine.next(state, action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let safe = Property::always("safety", |model: &Self, state| {
            M::safety()
                .iter()
                .all(|(_, holds)| holds(&model.machine, state))
        });
        let live = Property::always(LIVE, |model: &Self, state| {
            !model.checks_end || model.reaches_the_end(state)
        });
        vec![safe, live]
    }
}

/// Every reachable state is safe and live.
pub fn holds<M: Machine>(name: &str, machine: M) {
    let began = Instant::now();
    let checker = Checked::new(machine)
        .checker()
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    println!(
        "model {name}: {} unique states of {} generated, depth {}, {:.1} s",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        began.elapsed().as_secs_f64()
    );
    if let Some(trace) = counterexample(&checker) {
        panic!("model {name}: {trace}");
    }
}

/// The checker finds a counterexample, and prints the shortest.
pub fn catches<M: Machine>(name: &str, machine: M) {
    let checker = Checked::safety_only(machine)
        .checker()
        .finish_when(HasDiscoveries::Any)
        .spawn_bfs()
        .join();
    let trace = counterexample(&checker);
    let states = checker.unique_state_count();
    let Some(trace) = trace else {
        panic!("model {name}: no counterexample in {states} states: the checker is blind to it");
    };
    println!("model {name}: caught within {states} states: {trace}");
}

fn counterexample<M: Machine>(checker: &impl Checker<Checked<M>>) -> Option<String> {
    let (property, path) = checker.discoveries().into_iter().next()?;
    let last = path.last_state().clone();
    let model = checker.model();
    let broken = M::safety()
        .into_iter()
        .find(|(_, holds)| !holds(&model.machine, &last));
    let what = broken.map_or(property, |(name, _)| name);
    let actions = path.into_actions();
    Some(format!(
        "not so: {what}, after {} steps: {actions:?}\n  {last:?}",
        actions.len()
    ))
}
