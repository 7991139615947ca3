//! Which requests fail, and how.
//!
//! Promises: rules are asked in their order. A [`Fault::Delay`] adds up and the next rules are
//! asked; of the other faults the first one that strikes counts, and the rules behind it do not
//! see the request.

use std::str::FromStr;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Each of the others.
    Any,
    /// Write an object.
    Put,
    /// Read an object or a part of it.
    Get,
    /// Ask for an object's size and times.
    Head,
    /// List a part of the bucket.
    List,
}

/// How often a rule strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The next so many requests that fit.
    Next(u32),
    /// Each request that fits.
    Always,
    /// By chance, one of `n` requests that fit; the same ones for the same seed.
    OneIn {
        /// One of so many; 0 counts as 1.
        n: u32,
        /// Seed of the dice.
        seed: u64,
    },
}

/// What happens instead of the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This status, and nothing is done. 429 and 503 come with `Retry-After: 1`.
    Status(u16),
    /// The request is done, then answered with this status.
    CommitThenStatus(u16),
    /// The request is done, then the connection is cut without an answer.
    CommitThenCut,
    /// This status at once; a put is done later all the same, if its condition still holds.
    LateCommit {
        /// The answer.
        status: u16,
        /// How much later.
        after: Duration,
    },
    /// The connection is cut before anything is done or answered.
    Cut,
    /// The connection is cut in the body: half-way through an upload, of which nothing is
    /// stored, or half-way through an answer.
    CutBody,
    /// Half of the answer, with a length that fits, as a broken proxy gives it. A put is done.
    HalfAnswer,
    /// 200 with a web page, as the sign-in page of a network gives it; nothing is done.
    WebPage,
    /// The usual, so much later.
    Delay(Duration),
    /// No answer until the client times out.
    Hang,
    /// 401, as for a token that has expired.
    TokenExpired,
    /// 412, though the object is not there.
    PreconditionFailed,
}

impl Fault {
    /// Its name in [`Counts::faults`](super::Counts) and in a rule's text.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Status(_) => "status",
            Self::CommitThenStatus(_) => "commit-then-status",
            Self::CommitThenCut => "commit-then-cut",
            Self::LateCommit { .. } => "late-commit",
            Self::Cut => "cut",
            Self::CutBody => "cut-body",
            Self::HalfAnswer => "half-answer",
            Self::WebPage => "web-page",
            Self::Delay(_) => "delay",
            Self::Hang => "hang",
            Self::TokenExpired => "token-expired",
            Self::PreconditionFailed => "precondition-failed",
        }
    }
}

/// A fault and the requests that it strikes. As text for the command line it is
/// `OPERATION[@KEY]:TIMES:FAULT`, such as `put:next=3:status=503`,
/// `any:one-in=10/7:commit-then-cut` (one of 10, seed 7) or `get@2026-11-22:always:delay=250`
/// (milliseconds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kind of request.
    pub on: Operation,
    /// What the object's key, or the prefix of a listing, has to contain.
    pub key_contains: Option<String>,
    /// How often.
    pub times: Times,
    pub fault: Fault,
}

impl Rule {
    /// A rule for all keys.
    pub fn new(on: Operation, times: Times, fault: Fault) -> Self {
        Self {
            on,
            key_contains: None,
            times,
            fault,
        }
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |part: &str, may_be: &str| {
            format!("rule {text:?}: {part:?} can't be used; it may be {may_be}")
        };
        let parts: Vec<_> = text.split(':').collect();
        let [on, times, fault] = parts[..] else {
            return Err(wrong(text, "OPERATION[@KEY]:TIMES:FAULT"));
        };
        let (operation, key) = match on.split_once('@') {
            Some((operation, key)) => (operation, Some(key.to_owned())),
            None => (on, None),
        };
        let on = match operation {
            "any" => Operation::Any,
            "put" => Operation::Put,
            "get" => Operation::Get,
            "head" => Operation::Head,
            "list" => Operation::List,
            _ => return Err(wrong(operation, "any, put, get, head or list")),
        };
        Ok(Self {
            on,
            key_contains: key,
            times: parse_times(times)
                .ok_or_else(|| wrong(times, "always, next=COUNT or one-in=COUNT/SEED"))?,
            fault: parse_fault(fault).ok_or_else(|| wrong(fault, FAULTS))?,
        })
    }
}

const FAULTS: &str = "status=CODE, commit-then-status=CODE, commit-then-cut, late-commit=MILLISECONDS, cut, cut-body, half-answer, web-page, delay=MILLISECONDS, hang, token-expired or precondition-failed";

fn parse_times(text: &str) -> Option<Times> {
    if text == "always" {
        return Some(Times::Always);
    }
    match text.split_once('=')? {
        ("next", count) => Some(Times::Next(count.parse().ok()?)),
        ("one-in", dice) => {
            let (n, seed) = dice.split_once('/').unwrap_or((dice, "0"));
            Some(Times::OneIn {
                n: n.parse().ok().filter(|n| *n > 0)?,
                seed: seed.parse().ok()?,
            })
        }
        _ => None,
    }
}

fn parse_fault(text: &str) -> Option<Fault> {
    let status = |value: &str| {
        let status: u16 = value.parse().ok()?;
        (300..600).contains(&status).then_some(status)
    };
    let millis = |value: &str| value.parse().ok().map(Duration::from_millis);
    Some(match text.split_once('=') {
        Some(("status", value)) => Fault::Status(status(value)?),
        Some(("commit-then-status", value)) => Fault::CommitThenStatus(status(value)?),
        Some(("late-commit", value)) => Fault::LateCommit {
            status: 503,
            after: millis(value)?,
        },
        Some(("delay", value)) => Fault::Delay(millis(value)?),
        Some(_) => return None,
        None => match text {
            "commit-then-cut" => Fault::CommitThenCut,
            "cut" => Fault::Cut,
            "cut-body" => Fault::CutBody,
            "half-answer" => Fault::HalfAnswer,
            "web-page" => Fault::WebPage,
            "hang" => Fault::Hang,
            "token-expired" => Fault::TokenExpired,
            "precondition-failed" => Fault::PreconditionFailed,
            _ => return None,
        },
    })
}

/// Rules with what is left of them.
#[derive(Default)]
pub(crate) struct Rules(Vec<Armed>);

struct Armed {
    rule: Rule,
    struck: u32,
    dice: ChaCha8Rng,
}

/// What befalls one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fate {
    /// First this pause.
    pub delay: Duration,
    pub fault: Option<Fault>,
}

impl Rules {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let arm = |rule: Rule| {
            let seed = match rule.times {
                Times::OneIn { seed, .. } => seed,
                Times::Next(_) | Times::Always => 0,
            };
            Armed {
                rule,
                struck: 0,
                dice: ChaCha8Rng::seed_from_u64(seed),
            }
        };
        Self(rules.into_iter().map(arm).collect())
    }

    pub(crate) fn fate(&mut self, operation: Operation, key: &str) -> Fate {
        let mut fate = Fate::default();
        for armed in &mut self.0 {
            if !armed.strikes(operation, key) {
                continue;
            }
            match armed.rule.fault {
                Fault::Delay(delay) => fate.delay += delay,
                fault => {
                    fate.fault = Some(fault);
                    break;
                }
            }
        }
        fate
    }
}

impl Armed {
    fn strikes(&mut self, operation: Operation, key: &str) -> bool {
        let rule = &self.rule;
        let fits = (rule.on == Operation::Any || rule.on == operation)
            && rule
                .key_contains
                .as_ref()
                .is_none_or(|part| key.contains(part.as_str()));
        if !fits {
            return false;
        }
        let strikes = match rule.times {
            Times::Always => true,
            Times::Next(count) => self.struck < count,
            Times::OneIn { n, .. } => self.dice.random_ratio(1, n.max(1)),
        };
        self.struck = self.struck.saturating_add(u32::from(strikes));
        strikes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rule_is_read_from_text_and_the_error_of_a_wrong_one_says_what_is_expected() {
        let rule: Rule = "put@transactions/:next=3:commit-then-status=503"
            .parse()
            .unwrap();
        assert_eq!(
            rule,
            Rule {
                on: Operation::Put,
                key_contains: Some("transactions/".into()),
                times: Times::Next(3),
                fault: Fault::CommitThenStatus(503),
            }
        );
        let rule: Rule = "any:one-in=10/7:delay=250".parse().unwrap();
        assert_eq!(rule.times, Times::OneIn { n: 10, seed: 7 });
        assert_eq!(rule.fault, Fault::Delay(Duration::from_millis(250)));
        for (text, says) in [
            ("", "OPERATION[@KEY]:TIMES:FAULT"),
            ("post:always:cut", "any, put, get, head or list"),
            ("put:sometimes:cut", "next=COUNT"),
            ("put:one-in=0/1:cut", "next=COUNT"),
            ("put:always:status=200", "status=CODE"),
            ("put:always:explode", "status=CODE"),
            ("put:next=-1:cut", "next=COUNT"),
        ] {
            let error = text.parse::<Rule>().unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn rules_strike_as_often_as_they_say_and_delays_add_up() {
        let second = Duration::from_secs(1);
        let mut rules = Rules::new(vec![
            Rule::new(Operation::Any, Times::Always, Fault::Delay(second)),
            Rule::new(Operation::Put, Times::Next(1), Fault::Cut),
            Rule {
                key_contains: Some("b".into()),
                ..Rule::new(Operation::Put, Times::Next(1), Fault::Status(503))
            },
        ]);
        let fault = |fate: Fate| {
            assert_eq!(fate.delay, second);
            fate.fault
        };
        assert_eq!(fault(rules.fate(Operation::Get, "b")), None);
        assert_eq!(fault(rules.fate(Operation::Put, "b")), Some(Fault::Cut));
        assert_eq!(fault(rules.fate(Operation::Put, "a")), None);
        let last = fault(rules.fate(Operation::Put, "abc"));
        assert_eq!(last, Some(Fault::Status(503)));
        assert_eq!(fault(rules.fate(Operation::Put, "abc")), None);
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let strikes = |seed| {
            let times = Times::OneIn { n: 4, seed };
            let mut rules = Rules::new(vec![Rule::new(Operation::Any, times, Fault::Cut)]);
            (0..1000)
                .map(|_| rules.fate(Operation::Get, "").fault.is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(strikes(1), strikes(1));
        assert_ne!(strikes(1), strikes(2));
        let share = strikes(1).iter().filter(|struck| **struck).count();
        assert!((200..300).contains(&share), "{share}");
    }
}
