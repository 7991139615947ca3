//! The newest warnings and errors of the process, for its pages.
//!
//! Promises a bounded number, of which the oldest go first; what repeats itself is counted and not listed again.

use std::collections::VecDeque;
use std::time::SystemTime;

use parking_lot::Mutex;

/// More than fit on a screen.
const KEPT: usize = 50;
/// Characters; the log has the rest of a longer text.
const MAX_TEXT: usize = 2_000;

static NEWEST: Mutex<VecDeque<Trouble>> = Mutex::new(VecDeque::new());

/// A warning or an error as it was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When it was logged last.
    pub at: SystemTime,
    pub is_error: bool,
    /// Names of the event and of the actor.
    pub event: String,
    pub actor: String,
    pub generation: u64,
    /// Its texts, which tell it from others of its name.
    pub text: String,
    /// Its numbers, which change as it repeats itself.
    pub figures: String,
    pub remedy: Option<String>,
    /// How often it was logged, one time after the other.
    pub times: u64,
}

/// Notes one that was logged.
pub fn note(mut trouble: Trouble) {
    for text in [&mut trouble.text, &mut trouble.figures] {
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(end);
            text.push('…');
        }
    }
    let mut newest = NEWEST.lock();
    if let Some(last) = newest.back_mut()
        && (&last.event, &last.actor, &last.text) == (&trouble.event, &trouble.actor, &trouble.text)
    {
        trouble.times += last.times;
        *last = trouble;
        return;
    }
    if newest.len() == KEPT {
        newest.pop_front();
    }
    newest.push_back(trouble);
}

/// The newest first.
pub fn newest() -> Vec<Trouble> {
    NEWEST.lock().iter().rev().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trouble(text: &str, figures: &str) -> Trouble {
        Trouble {
            at: SystemTime::now(),
            is_error: false,
            event: "kafka_unreachable".to_owned(),
            actor: "kafka_subscriber".to_owned(),
            generation: 1,
            text: text.to_owned(),
            figures: figures.to_owned(),
            remedy: None,
            times: 1,
        }
    }

    #[test]
    fn the_newest_come_first_and_what_repeats_itself_is_counted() {
        for attempt in ["attempt=1", "attempt=2", "attempt=3"] {
            note(trouble("down", attempt));
        }
        note(trouble(&"é".repeat(MAX_TEXT + 1), ""));
        let seen = newest();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].text.chars().count(), MAX_TEXT + 1);
        assert!(seen[0].text.ends_with('…'));
        assert_eq!((seen[1].figures.as_str(), seen[1].times), ("attempt=3", 3));
        for number in 0..2 * KEPT {
            note(trouble(&number.to_string(), ""));
        }
        let seen = newest();
        assert_eq!(seen.len(), KEPT);
        assert_eq!(seen[0].text, (2 * KEPT - 1).to_string());
    }
}
