//! What must be true in every state, and the fair run that must succeed from each.

use ftap_testing::model::Stuck;

use super::super::world::bits;
use super::{Ingest, State};

impl Ingest {
    pub(super) fn covered(&self, state: &State) -> u64 {
        let files = state.lake.iter();
        files.fold(0, |mask, run| mask | self.world.offsets(*run))
    }

    pub(crate) fn each_offset_once(&self, state: &State) -> bool {
        let mut seen = 0;
        !state.overwritten
            && state.lake.iter().all(|run| {
                let mine = self.world.offsets(*run);
                let is_new = seen & mine == 0;
                seen |= mine;
                is_new
            })
    }

    pub(crate) fn nothing_lost(&self, state: &State) -> bool {
        let last = state.lake.iter().map(|run| self.world.run(*run).last).max();
        let due = last.map_or(0, |last| bits(0, last));
        due & !(self.covered(state) | state.skipped | state.unknowable) == 0
    }

    pub(crate) fn skips_are_real(&self, state: &State) -> bool {
        !state.false_skip && state.skipped & self.covered(state) & !state.reread == 0
    }

    pub(crate) fn committed_is_durable(&self, state: &State) -> bool {
        let last = state.lake.iter().map(|run| self.world.run(*run).last).max();
        let behind = |committed| committed <= last.map_or(0, |last| last + 1);
        state.set_by_operator || state.committed.is_none_or(behind)
    }

    pub(crate) fn rejections_are_kept(&self, state: &State) -> bool {
        let mut files = state.lake.iter();
        files.all(|run| self.world.run(*run).rejected & !state.dead_letters == 0)
    }

    pub(crate) fn one_life(&self, state: &State) -> bool {
        let lives = |run: &u16| self.world.run(*run).life;
        !state.refused_in_vain
            && state
                .lake
                .iter()
                .all(|run| lives(run) == lives(&state.lake[0]))
    }

    /// Runs on without faults: whether the chain reaches the log's end. `None` in between.
    pub(crate) fn fair_step(&self, state: &State) -> Result<Option<State>, Stuck> {
        let mut actions = Vec::new();
        self.possible(state, &mut actions);
        if let Some(action) = actions.into_iter().find(|action| !action.is_fault()) {
            return Ok(Some(self.step(state, action)));
        }
        let all = bits(0, self.world.records - 1);
        let is_complete = all & !(self.covered(state) | state.skipped | state.unknowable) == 0;
        // A recreated topic is refused: an operator has to act.
        if is_complete || state.life > 0 || self.is_beyond_assumption(state) {
            Ok(None)
        } else {
            Err(Stuck)
        }
    }
}
