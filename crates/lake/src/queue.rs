//! Files of one partition on their way into the lake.
//!
//! Promises: a file is put only after its predecessor of the same reading is durable. Once a
//! reading has ended (its partition was taken away, its run was overtaken, a put failed)
//! nothing more of it is put, however late it arrives: the file after a missing one would
//! make the chain look complete. Relies on readings being numbered upwards from 1 and on
//! their files arriving in order. Pure.

use std::collections::VecDeque;

/// Files, oldest first, with the number of the reading they come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PutQueue<T> {
    waiting: VecDeque<(u64, T)>,
    is_busy: bool,
    /// Readings up to this one have ended.
    ended: u64,
}

impl<T> Default for PutQueue<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            is_busy: false,
            ended: 0,
        }
    }
}

impl<T> PutQueue<T> {
    /// Takes a file of reading `assignment`; gives it back if that reading has ended.
    pub fn push(&mut self, assignment: u64, file: T) -> Option<T> {
        if assignment <= self.ended {
            return Some(file);
        }
        self.waiting.push_back((assignment, file));
        None
    }

    /// The file to put now: none while another put is under way.
    pub fn start(&mut self) -> Option<T> {
        if self.is_busy {
            return None;
        }
        let (_, file) = self.waiting.pop_front()?;
        self.is_busy = true;
        Some(file)
    }

    /// Whether a put is under way: until it has settled the chain's end is not known.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// The put that was under way has come to its end.
    pub fn settled(&mut self) {
        self.is_busy = false;
    }

    /// Ends reading `assignment` and those before it; how many waiting files that drops.
    pub fn end(&mut self, assignment: u64) -> usize {
        self.ended = self.ended.max(assignment);
        let before = self.waiting.len();
        self.waiting.retain(|(of, _)| *of > assignment);
        before - self.waiting.len()
    }

    /// Ends every reading there is and will be: a put has failed for good.
    pub fn fail(&mut self) -> usize {
        self.end(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_at_a_time_in_order() {
        let mut queue = PutQueue::default();
        assert_eq!(queue.push(1, "a"), None);
        assert_eq!(queue.push(1, "b"), None);
        assert_eq!(queue.start(), Some("a"));
        assert_eq!(queue.start(), None, "a is under way");
        queue.settled();
        assert_eq!(queue.start(), Some("b"));
    }

    #[test]
    fn nothing_of_a_reading_that_ended_is_put_however_late_it_comes() {
        let mut queue = PutQueue::default();
        queue.push(1, "a");
        queue.push(2, "x");
        assert_eq!(queue.end(1), 1);
        assert_eq!(queue.push(1, "b"), Some("b"), "it was on its way");
        assert_eq!(queue.start(), Some("x"));
        queue.settled();
        assert_eq!(queue.end(1), 0, "ending it twice does no harm");
        queue.push(2, "y");
        assert_eq!(queue.fail(), 1);
        assert_eq!(queue.push(3, "z"), Some("z"));
        assert_eq!(queue.start(), None);
    }
}
