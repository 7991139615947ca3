//! Named points at which a test makes an actor panic, fail or hang.
//!
//! Only with the feature `failpoints`; without it [`hit`] is empty and inlined
//! away. `FTAP_FAILPOINTS=parquet_buffer=panic@3,gcs_uploader=hang@1` makes the
//! third batch of some ParquetBuffer panic and the first upload hang. The hits
//! are counted over the whole process, so a point fires once and not again in
//! the next generation.

use crate::Failure;

/// Passes the point `name`; may not return, or return an error, in test builds.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn hit(_name: &'static str) -> Result<(), Failure> {
    Ok(())
}

#[cfg(feature = "failpoints")]
pub use armed::hit;

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::AtomicU64;
    use std::sync::atomic::Ordering::SeqCst;

    use super::Failure;
    use crate::Internal;

    #[derive(Clone, Copy)]
    enum Action {
        Panic,
        Error,
        Hang,
    }

    struct Failpoint {
        name: String,
        action: Action,
        at: u64,
        hits: AtomicU64,
    }

    static POINTS: LazyLock<Vec<Failpoint>> = LazyLock::new(|| {
        let text = std::env::var("FTAP_FAILPOINTS").unwrap_or_default();
        text.split(',')
            .filter(|part| !part.is_empty())
            .map(parse)
            .collect()
    });

    fn parse(part: &str) -> Failpoint {
        let parsed = part.split_once('=').and_then(|(name, rest)| {
            let (action, at) = rest.split_once('@').unwrap_or((rest, "1"));
            let action = match action {
                "panic" => Action::Panic,
                "error" => Action::Error,
                "hang" => Action::Hang,
                _ => return None,
            };
            Some(Failpoint {
                name: name.to_owned(),
                action,
                at: at.parse().ok()?,
                hits: AtomicU64::new(0),
            })
        });
        parsed
            .unwrap_or_else(|| panic!("FTAP_FAILPOINTS: {part:?} is not NAME=panic|error|hang[@N]"))
    }

    /// Passes the point `name`; may not return, or return an error.
    pub fn hit(name: &'static str) -> Result<(), Failure> {
        for point in POINTS.iter().filter(|point| point.name == name) {
            if point.hits.fetch_add(1, SeqCst) + 1 == point.at {
                match point.action {
                    Action::Panic => panic!("failpoint {name}"),
                    Action::Error => {
                        return Err(Failure::new(
                            Internal::Injected,
                            format!("failpoint {name}"),
                        ));
                    }
                    Action::Hang => loop {
                        std::thread::park();
                    },
                }
            }
        }
        Ok(())
    }
}
