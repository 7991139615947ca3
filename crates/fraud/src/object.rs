//! The objects that hold scores.
//!
//! Promises: a model's objects are numbered from 1, so two processes that score at once meet at one name and one of
//! them is refused; columns as in docs/DATA.md.

use std::sync::Arc;
use std::time::Instant;

use arrow_array::{
    BooleanArray, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use chrono::{DateTime, Utc};
use ftap_lake::{
    Adoption, ClosedFile, Compression, FRAUD_SCORES, FileError, FileWriter, Footer, FooterError,
    Hash, NoConflict, Pairs, ScoresObjectName, Text, WholeNumber, footer,
};
use xxhash_rust::xxh3::Xxh3;

use crate::model::Model;

/// Rows of an object, at most.
pub const OBJECT_ROWS: usize = 500_000;

/// A transaction's score.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    pub transaction_id: String,
    pub at: DateTime<Utc>,
    /// How likely it is fraud, from 0 to 1.
    pub score: f64,
}

footer! {
    /// What an object of scores says of itself.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ScoresFooter, "ftap.scores_version" = 1;
    "ftap.model" (Hash: "the model's id") model: u64,
    "ftap.number" (WholeNumber: "counts the model's files from 1") number: u32,
    "ftap.rows" (WholeNumber: "rows in the file") rows: u64,
    "ftap.checksum" (Hash: "XXH3-64 of ids and scores") checksum: u64,
    "ftap.writer_id" (Text: "the process that wrote the file") writer_id: String,
}

impl ScoresFooter {
    /// No value contradicts another.
    fn check(&self, _: &Pairs<'_>) -> Result<(), FooterError> {
        Ok(())
    }
}

impl Footer for ScoresFooter {
    type Name = ScoresObjectName;
    type Conflict = NoConflict;

    fn check_name(&self, name: &ScoresObjectName) -> Result<(), FooterError> {
        let Self { model, number, .. } = *self;
        if (model, number) == (name.model, name.number) {
            Ok(())
        } else {
            let own = format!("file {number} of the model {model:016x}");
            Err(FooterError::OfAnother(own))
        }
    }

    fn adopt(&self, theirs: &Self) -> Result<Adoption, NoConflict> {
        let is_same = (self.rows, self.checksum) == (theirs.rows, theirs.checksum);
        Ok(if is_same {
            Adoption::Same
        } else {
            Adoption::Overtaken
        })
    }
}

pub fn schema() -> SchemaRef {
    let field = |name, kind| Field::new(name, kind, false);
    let utc_micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        field("transaction_id", DataType::Utf8),
        field("event_time", utc_micros),
        field("score", DataType::Float64),
        field("model", DataType::Utf8),
        field("is_out_of_sample", DataType::Boolean),
    ]))
}

/// The model's object of this number.
///
/// # Errors
/// If the compression has a level that does not exist.
pub fn file(
    model: &Model,
    number: u32,
    scores: &[Score],
    compression: Compression,
    writer_id: &str,
) -> Result<ClosedFile<ScoresFooter>, FileError> {
    let fitted_until = model.weights.fitted_until;
    let name = ScoresObjectName {
        date: fitted_until.date_naive(),
        model: model.weights.fingerprint(),
        number,
    };
    let times = scores.iter().map(|score| score.at.timestamp_micros());
    let is_later = scores.iter().map(|score| Some(score.at > fitted_until));
    let schema = schema();
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![
            Arc::new(StringArray::from_iter_values(
                scores.iter().map(|score| &score.transaction_id),
            )),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC")),
            Arc::new(Float64Array::from_iter_values(
                scores.iter().map(|score| score.score),
            )),
            Arc::new(StringArray::from(vec![model.id.as_str(); scores.len()])),
            Arc::new(is_later.collect::<BooleanArray>()),
        ],
    );
    let batch = batch.map_err(|source| FileError::Arrow {
        name: name.key(),
        source,
    })?;
    let mut writer = FileWriter::open(&FRAUD_SCORES, name.key(), schema, compression)?;
    writer.write(&batch)?;
    let footer = ScoresFooter {
        model: name.model,
        number,
        rows: scores.len() as u64,
        checksum: checksum(scores),
        writer_id: writer_id.to_owned(),
    };
    Ok(ClosedFile {
        name,
        bytes: writer.close(&footer)?,
        footer,
        opened_at: Instant::now(),
    })
}

fn checksum(scores: &[Score]) -> u64 {
    let mut hash = Xxh3::new();
    for score in scores {
        hash.update(&(score.transaction_id.len() as u64).to_le_bytes());
        hash.update(score.transaction_id.as_bytes());
        hash.update(&score.score.to_bits().to_le_bytes());
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ftap_lake::{FooterFormat as _, footer_table};

    use super::*;
    use crate::training::tests::model;

    fn scores(of: &[(&str, f64)]) -> Vec<Score> {
        let scores = of.iter().zip(0..).map(|((id, score), second)| Score {
            transaction_id: (*id).to_owned(),
            at: DateTime::from_timestamp(second, 0).unwrap(),
            score: *score,
        });
        scores.collect()
    }

    #[test]
    fn the_object_of_a_number_is_adopted_if_it_has_the_same_scores_only() {
        let model = model();
        let build = |number, of: &[(&str, f64)]| {
            file(&model, number, &scores(of), Compression::Zstd(1), "writer").unwrap()
        };
        let ours = build(1, &[("a", 0.5), ("b", 0.25)]);
        assert!(FRAUD_SCORES.owns(&ours.key()));
        assert!(ours.key().contains(&model.id), "{}", ours.key());
        let pairs = ours.footer.to_pairs();
        let pairs = pairs
            .iter()
            .map(|(key, value)| (*key, Some(value.as_str())));
        assert_eq!(ScoresFooter::from_pairs(pairs).unwrap(), ours.footer);
        let same = build(1, &[("a", 0.5), ("b", 0.25)]);
        assert_eq!(ours.footer.adopt(&same.footer), Ok(Adoption::Same));
        for other in [
            &[("a", 0.5), ("b", 0.5)][..],
            &[("a", 0.5)],
            &[("ab", 0.5), ("", 0.25)],
        ] {
            let other = build(1, other);
            assert_eq!(other.key(), ours.key());
            assert_eq!(ours.footer.adopt(&other.footer), Ok(Adoption::Overtaken));
        }
        let next = build(2, &[("c", 0.5)]);
        assert!(next.footer.check_name(&next.name).is_ok());
        let error = next.footer.check_name(&ours.name).unwrap_err();
        assert!(error.to_string().contains("file 2 of the model"), "{error}");
    }

    #[test]
    fn the_footer_is_documented() {
        let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/DATA.md");
        let document = std::fs::read_to_string(document).unwrap();
        let table = footer_table(ScoresFooter::FIELDS);
        assert!(document.contains(&table), "docs/DATA.md lacks:\n{table}");
    }
}
