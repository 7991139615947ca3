//! The group that loads the lake into BigQuery.

use ftap_actors::bigquery_loader::{BigQueryLoader, LoaderParts};
use ftap_supervision::{Group, Stages};

use super::MAILBOX;

/// Loads the lake's objects: `lake ──▶ bigquery_loader ══▶ BigQuery`.
pub struct BigQueryGroup {
    /// What the loader needs.
    pub parts: LoaderParts,
}

impl Group for BigQueryGroup {
    fn name(&self) -> &'static str {
        "bigquery"
    }

    /// What is not loaded yet is loaded after the next start.
    fn finishes_before_stop(&self) -> bool {
        false
    }

    fn start(&mut self, stages: &mut Stages) {
        let mailbox = stages.mailbox::<BigQueryLoader>("bigquery_loader", MAILBOX);
        let parts = self.parts.clone();
        stages.spawn(mailbox, move |stage| BigQueryLoader::new(stage, parts));
    }
}
