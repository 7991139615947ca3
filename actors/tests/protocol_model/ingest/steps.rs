//! What each step does: the program's stages, a message at a time.

use ftap_lake::{Adoption, SkipCause};

use super::super::world::{bits, timestamp};
use super::{Action, Buffer, Ingest, Put, State, ToBuffer, Word, Writer};

impl Ingest {
    pub(crate) fn step(&self, last: &State, action: Action) -> State {
        use Action::*;
        let mut state = last.clone();
        match action {
            LatePutArrives(i) => {
                let run = state.orphans.remove(i);
                self.store(&mut state, run);
            }
            PutArrives(w) => {
                if let Some(Put { run, .. }) = state.writers[w].put {
                    let found = self.store(&mut state, run);
                    if let Some(put) = &mut state.writers[w].put {
                        put.found = Some(found);
                    }
                }
            }
            PutIsAnswered(w) => self.settle(&mut state, w),
            ThreadIsTold(w) => self.tell_thread(&mut state, w),
            CommitArrives(i) => {
                state.committed = Some(state.commits.remove(i));
                state.set_by_operator = false;
            }
            ListingIsTold(w, i) => self.begin_reading(&mut state, w, i),
            Append => {
                state.log_end += 1;
                // A transaction's end follows its records at once.
                if state.log_end % 5 == 2 && state.log_end < self.world.records {
                    state.log_end += 1;
                }
            }
            Crash(w) | ReaderRestarts(w) => {
                if let Crash(_) = action {
                    state.faults.crashes -= 1;
                }
                state.writers[w].restart(&mut state.orphans);
                state.owner = state.owner.filter(|owner| *owner != w);
            }
            Reset(to) => {
                state.faults.resets -= 1;
                let next = self.lake_end(&state.lake).map_or(0, |last| last + 1);
                state.was_reset_forward |= to > next;
                state.reread |= bits(to.max(next), self.world.records - 1);
                state.committed = Some(to);
                state.set_by_operator = true;
            }
            Retain => {
                state.faults.retentions -= 1;
                state.log_start += 1;
            }
            Remake(keeps_offsets) => {
                state.faults.remakes -= 1;
                (state.life, state.log_start, state.log_end) = (state.life + 1, 0, 0);
                if !keeps_offsets {
                    state.committed = None;
                }
                state.set_by_operator = true;
            }
            Evict(_) => {
                state.faults.zombies -= 1;
                state.owner = None;
            }
            Assign(w) => {
                state.owner = Some(w);
                let committed = state.committed;
                let writer = &mut state.writers[w];
                let request = writer.awaiting.ask(&[(0, committed)]);
                writer.questions.push(request);
            }
            _ => self.step_of_writer(&mut state, action),
        }
        state
    }

    fn step_of_writer(&self, state: &mut State, action: Action) {
        use Action::*;
        match action {
            BufferTakesMail(w) => {
                let writer = &mut state.writers[w];
                writer.buffer = match writer.mailbox.pop_front() {
                    Some(ToBuffer::Open(assignment)) => Some(Buffer {
                        assignment,
                        open: None,
                    }),
                    _ => None,
                };
            }
            DeadLettersArrive(w) => {
                state.dead_letters |= std::mem::take(&mut state.writers[w].rejected);
            }
            LakeIsListed(w, i) => {
                let newest = self.newest(&state.lake);
                let writer = &mut state.writers[w];
                let request = writer.questions.remove(i);
                writer.answers.push((request, newest));
            }
            PutIsSent(w) => {
                let writer = &mut state.writers[w];
                writer.put = writer.queue.start().map(|(assignment, run)| Put {
                    assignment,
                    run,
                    found: None,
                });
            }
            LoseReply(w) => {
                state.faults.lost_replies -= 1;
                if let Some(put) = &mut state.writers[w].put
                    && put.found.take().is_none()
                    && !state.orphans.contains(&put.run)
                {
                    state.orphans.push(put.run);
                    state.orphans.sort_unstable();
                }
            }
            LossIsNoticed(w) => state.writers[w].release(&self.rules),
            Revoke(w) => {
                state.faults.revocations -= 1;
                state.owner = None;
                state.writers[w].release(&self.rules);
            }
            Read(w) => self.read(state, w),
            Close(w) => self.close(state, w),
            _ => {}
        }
    }

    fn read(&self, state: &mut State, w: usize) {
        let end = state.log_end;
        let writer = &mut state.writers[w];
        let (Some(progress), Some(buffer)) = (&mut writer.progress, &mut writer.buffer) else {
            return;
        };
        let Some(offset) = self.world.next_visible(progress.position(), end) else {
            return;
        };
        progress.handed_on(offset, 1, timestamp(offset));
        let first = buffer.open.map_or(offset, |(first, _)| first);
        buffer.open = Some((first, offset));
        writer.rejected |= u64::from(offset % 5 == 3) << offset;
        if self.world.is_full(first, offset) {
            self.close(state, w);
        }
    }

    fn close(&self, state: &mut State, w: usize) {
        let writer = &mut state.writers[w];
        let Some(buffer) = &mut writer.buffer else {
            return;
        };
        let Some((first, last)) = buffer.open.take() else {
            return;
        };
        let run = self.world.id(writer.life, first, last);
        writer
            .queue
            .push(buffer.assignment, (buffer.assignment, run));
        if !self.rules.commit_after_put {
            commit(state, last + 1);
        }
    }

    /// What the store does with a put; the file that is there afterwards.
    fn store(&self, state: &mut State, run: u16) -> u16 {
        let name = &self.world.run(run).name;
        let there = |other: &u16| self.world.run(*other).name == *name;
        match state.lake.iter().position(there) {
            Some(at) if self.rules.create_only => state.lake[at],
            Some(at) => {
                state.overwritten |= state.lake[at] != run;
                state.lake[at] = run;
                run
            }
            None => {
                state.lake.push(run);
                state.lake.sort_unstable();
                run
            }
        }
    }

    fn settle(&self, state: &mut State, w: usize) {
        let life = state.life;
        let writer = &mut state.writers[w];
        let Some(Put {
            assignment,
            run,
            found: Some(found),
        }) = writer.put.take()
        else {
            return;
        };
        writer.queue.settled();
        let ours = &self.world.run(run).footer;
        // Our own file of this very put needs no reading; comparing it says the same.
        let theirs = &self.world.run(found).footer;
        match (self.rules.exists)(ours, theirs) {
            Ok(Adoption::Same) => writer
                .words
                .push_back(Word::Committed(assignment, ours.next_offset())),
            Ok(Adoption::Overtaken) => {
                writer.end_readings(assignment, &self.rules);
                writer
                    .words
                    .push_back(Word::Rewind(assignment, theirs.next_offset()));
            }
            Err(_) => {
                state.refused_in_vain |= life == 0;
                self.refuse(state, w);
            }
        }
    }

    fn refuse(&self, state: &mut State, w: usize) {
        state.writers[w].restart(&mut state.orphans);
        state.writers[w].is_refused = true;
        state.owner = state.owner.filter(|owner| *owner != w);
    }

    fn tell_thread(&self, state: &mut State, w: usize) {
        let writer = &mut state.writers[w];
        let is_current = |writer: &Writer, assignment| {
            writer
                .progress
                .as_ref()
                .is_some_and(|progress| progress.assignment == assignment)
        };
        match writer.words.pop_front() {
            Some(Word::Committed(assignment, next)) if is_current(writer, assignment) => {
                if let Some(progress) = &mut writer.progress {
                    progress.durable_up_to(next);
                }
                commit(state, next);
            }
            Some(Word::Rewind(assignment, offset)) if is_current(writer, assignment) => {
                writer.open(offset);
                commit(state, offset);
            }
            _ => {}
        }
    }

    fn begin_reading(&self, state: &mut State, w: usize, answer: usize) {
        let (request, newest) = state.writers[w].answers[answer];
        let committed = self.committed_for(state, w, request);
        state.writers[w].answers.remove(answer);
        let Some(committed) = committed else {
            return;
        };
        let footer = newest.map(|run| &self.world.run(run).footer);
        let found = footer
            .and_then(|footer| self.world.next_visible(footer.first_offset, state.log_end))
            .map(|offset| (offset, self.world.fingerprint(state.life, offset)));
        let goes_on = footer
            .is_none_or(|footer| (self.rules.continuation)(footer, state.log_start, found).is_ok());
        let Ok(start) = self.start(state, committed, newest) else {
            state.refused_in_vain |= state.life == 0;
            return self.refuse(state, w);
        };
        if !goes_on {
            state.refused_in_vain |= state.life == 0;
            return self.refuse(state, w);
        }
        if let Some(skipped) = &start.skipped {
            let mask = bits(*skipped.offsets.start(), *skipped.offsets.end());
            let is_real = skipped.cause == SkipCause::RetentionPassedChainEnd
                && state.log_start >= start.offset
                || state.was_reset_forward;
            state.false_skip |= !is_real || mask & self.covered(state) != 0;
            state.skipped |= mask;
        }
        if newest.is_none() {
            let known = committed.map_or(state.log_start, |c| c.min(state.log_start));
            state.unknowable |= bits(0, known - 1);
        }
        let writer = &mut state.writers[w];
        writer.awaiting.remove(&[0]);
        writer.life = state.life;
        writer.open(start.offset);
    }
}

fn commit(state: &mut State, offset: i64) {
    if !state.commits.contains(&offset) {
        state.commits.push(offset);
        state.commits.sort_unstable();
    }
}
