//! The parts of the lake's page: its data sets, the chains of its partitions and captured tables, its newest objects.

use std::sync::Arc;

use askama::Template;
use chrono::{DateTime, Utc};
use ftap_cdc::ChangeFooter;
use ftap_cdc::audit::ChainProblem;
use ftap_lake::{ChangePart, Joint, TransactionFooter};
use ftap_telemetry::figures::size;

use super::{CardError, answers, counted, decimal, html};
use crate::Dashboard;
use crate::holdings::{Chain, Held, HeldSet, Link, TableChain, TableLink};
use crate::router::Answer;

async fn held(dashboard: &Dashboard) -> Result<Arc<Held>, CardError> {
    Ok(answers(dashboard)?.held().await?)
}

#[derive(Template)]
#[template(path = "lake_sets.html")]
struct Sets {
    place: String,
    sets: Vec<SetRow>,
}

struct SetRow {
    name: &'static str,
    objects: String,
    rows: String,
    bytes: String,
    newest: Option<ObjectRow>,
}

/// An object in a list.
pub(crate) struct ObjectRow {
    pub key: String,
    pub bytes: String,
    pub written: String,
}

impl ObjectRow {
    fn of(object: &ftap_lake::ListedObject) -> Self {
        Self {
            key: object.key.clone(),
            bytes: size(object.bytes),
            written: time(object.written),
        }
    }
}

pub(super) async fn sets(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let held = held(dashboard).await?;
    let mut rows = Vec::new();
    for held in &held.sets {
        rows.push(SetRow {
            name: held.set.name,
            objects: whole(held.objects as u64),
            rows: row_count(dashboard, held).await?,
            bytes: size(held.bytes),
            newest: held.newest.first().map(ObjectRow::of),
        });
    }
    html(&Sets {
        place: held.place.clone(),
        sets: rows,
    })
}

/// As the engine counts them: the same as by SQL.
async fn row_count(dashboard: &Dashboard, held: &HeldSet) -> Result<String, CardError> {
    if held.objects == 0 {
        return Ok("0".to_owned());
    }
    let sql = format!("select count(*) as n from {}", held.set.name);
    // One data set that can't be read does not hide the others.
    Ok(match answers(dashboard)?.rows(&sql).await {
        Ok(rows) => decimal(rows.sum("n"), 0),
        Err(error) => format!("not known: {error}"),
    })
}

fn whole(number: u64) -> String {
    decimal(number as f64, 0)
}

pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

#[derive(Template)]
#[template(path = "lake_objects.html")]
struct Objects {
    sets: Vec<ObjectsOfSet>,
}

struct ObjectsOfSet {
    name: &'static str,
    objects: Vec<ObjectRow>,
    all: String,
}

pub(super) async fn objects(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let held = held(dashboard).await?;
    let sets = held.sets.iter().map(|held| ObjectsOfSet {
        name: held.set.name,
        objects: held.newest.iter().map(ObjectRow::of).collect(),
        all: whole(held.objects as u64),
    });
    html(&Objects {
        sets: sets.collect(),
    })
}

#[derive(Template)]
#[template(path = "lake_chains.html")]
struct Chains {
    title: &'static str,
    about: &'static str,
    /// How there will be some.
    empty: &'static str,
    heads: [&'static str; 3],
    colours: &'static [(&'static str, &'static str)],
    chains: Vec<ChainCard>,
    all: usize,
}

struct ChainCard {
    name: String,
    summary: String,
    /// What is wrong with it, in words.
    faults: Vec<String>,
    parts: Vec<Part>,
    links: Vec<LinkRow>,
    objects: String,
}

/// A part of the drawn bar, which is [`BAR`] wide.
struct Part {
    x: String,
    width: String,
    class: &'static str,
    text: String,
}

struct LinkRow {
    key: String,
    first: String,
    last: String,
    rows: String,
    note: String,
    before: String,
    is_fault: bool,
}

/// The colours of a bar: classes of the style sheet, and what they mean.
const COLOURS: &[(&str, &str)] = &[
    ("object", "an object,"),
    ("object other", "the next one"),
    ("gap", "missing, or twice"),
    ("rejected", "rejected records"),
];

const BAR: f64 = 1000.0;
/// So that a single offset among millions can be seen.
const LEAST_WIDTH: f64 = 2.0;

pub(super) async fn chains(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let held = held(dashboard).await?;
    html(&Chains {
        title: "Chains of the topic's partitions",
        about: "Each bar is a partition's offsets in the lake, one piece an object; marks of transactions take a few offsets, too",
        empty: "No transaction is in the lake yet. `ftap run` brings some.",
        heads: ["first offset", "last offset", "rejected"],
        colours: COLOURS,
        chains: held.chains.iter().map(ChainCard::of).collect(),
        all: held.all_chains,
    })
}

pub(super) async fn tables(dashboard: &Dashboard) -> Result<Answer, CardError> {
    let held = held(dashboard).await?;
    html(&Chains {
        title: "Chains of PostgreSQL's captured tables",
        about: "Each bar is the rows of a table's newest snapshot and of the changes after it, one piece an object; `ftap verify` also compares with what the checkpoints have recorded",
        empty: "No change is in the lake yet. `ftap run` and `ftap cdc` capture them from a PostgreSQL.",
        heads: ["first position", "last position", "holds"],
        colours: &COLOURS[..3],
        chains: held.tables.iter().map(ChainCard::of_table).collect(),
        all: held.tables.len(),
    })
}

/// How many objects of how many are shown.
fn shown_objects(shown: usize, all: usize) -> String {
    match shown {
        shown if shown < all => format!("the newest {shown} of {} objects", whole(all as u64)),
        shown => counted(shown as u64, "object"),
    }
}

impl ChainCard {
    fn of_table(chain: &TableChain) -> Self {
        let footers = chain
            .links
            .iter()
            .filter_map(|link| link.footer.as_ref().ok());
        let footers: Vec<&ChangeFooter> = footers.map(AsRef::as_ref).collect();
        let objects = shown_objects(chain.links.len(), chain.objects);
        let rows: u64 = footers.iter().map(|footer| footer.rows).sum();
        let mut summary = format!(
            "snapshot {}, {objects}, {}",
            chain.epoch,
            counted(rows, "row")
        );
        if let Some(last) = footers.iter().map(|footer| footer.last()).max() {
            summary.push_str(&format!(", up to position {last}"));
        }
        if chain.earlier_objects > 0 {
            let earlier = counted(chain.earlier_objects as u64, "object");
            summary.push_str(&format!("; {earlier} of earlier snapshots"));
        }
        let has_changes = chain
            .links
            .iter()
            .any(|link| matches!(link.name.part, ChangePart::Changes(_)));
        let missing = chain.missing_snapshot.as_ref();
        if missing.is_some() && !has_changes {
            summary.push_str("; the snapshot is not complete yet");
        }
        let missing = missing.filter(|_| has_changes).map(ToString::to_string);
        let faults = chain.links.iter().flat_map(TableLink::faults);
        Self {
            name: chain.table.clone(),
            summary,
            faults: missing.into_iter().chain(faults).collect(),
            parts: table_parts(&chain.links),
            links: chain.links.iter().rev().map(LinkRow::of_table).collect(),
            objects,
        }
    }

    fn of(chain: &Chain) -> Self {
        let footers: Vec<&TransactionFooter> = chain
            .links
            .iter()
            .filter_map(|link| link.footer.as_deref().ok())
            .collect();
        let first = footers.iter().map(|footer| footer.first_offset).min();
        let last = footers.iter().map(|footer| footer.last_offset).max();
        let shown = shown_objects(chain.links.len(), chain.objects);
        let rows: u64 = footers.iter().map(|footer| footer.rows).sum();
        let rejected: u64 = footers.iter().map(|footer| footer.rejected_records).sum();
        let offsets = match (first, last) {
            (Some(first), Some(last)) => format!("offsets {first} to {last}, "),
            _ => String::new(),
        };
        let (rows, rejected) = (counted(rows, "row"), whole(rejected));
        let summary = format!("{offsets}{shown}, {rows}, {rejected} rejected");
        Self {
            name: format!("{}, partition {}", chain.topic, chain.partition),
            summary,
            faults: chain.links.iter().filter_map(fault).collect(),
            parts: match (first, last) {
                (Some(first), Some(last)) => parts(&chain.links, first, last),
                _ => Vec::new(),
            },
            links: chain.links.iter().rev().map(LinkRow::of).collect(),
            objects: shown,
        }
    }
}

fn fault(link: &Link) -> Option<String> {
    match (&link.footer, &link.joint) {
        (Err(error), _) => Some(format!("{} can't be read: {error}", link.key)),
        (_, Some(Joint::Gap(offsets))) => Some(format!(
            "gap: no object has the offsets {} to {}; `offsets_skipped` in the log says why, and `ftap verify` compares with the topic",
            offsets.start(),
            offsets.end()
        )),
        (_, Some(Joint::Overlap(offsets))) => Some(format!(
            "overlap: {} has the offsets {} to {} again; `ftap verify` says more",
            link.key,
            offsets.start(),
            offsets.end()
        )),
        (_, None | Some(Joint::Whole | Joint::Marks(_))) => None,
    }
}

fn parts(links: &[Link], first: i64, last: i64) -> Vec<Part> {
    let scale = BAR / (last - first + 1) as f64;
    let part = |from: i64, to: i64, class, text: String| {
        let width = ((to - from + 1) as f64 * scale).max(LEAST_WIDTH);
        let x = ((from - first) as f64 * scale).min(BAR - width);
        Part {
            x: format!("{x:.2}"),
            width: format!("{width:.2}"),
            class,
            text,
        }
    };
    let (mut objects, mut marks) = (Vec::new(), Vec::new());
    for (index, link) in links.iter().enumerate() {
        if let Some(Joint::Gap(offsets)) = &link.joint {
            let (from, to) = (*offsets.start(), *offsets.end());
            marks.push(part(
                from,
                to,
                "gap",
                format!("gap: offsets {from} to {to}"),
            ));
        }
        if let Some(Joint::Overlap(offsets)) = &link.joint {
            let (from, to) = (*offsets.start(), *offsets.end());
            marks.push(part(
                from,
                to,
                "gap",
                format!("overlap: offsets {from} to {to}"),
            ));
        }
        let Ok(footer) = &link.footer else {
            continue;
        };
        let class = if index % 2 == 0 {
            "object"
        } else {
            "object other"
        };
        let (from, to) = (footer.first_offset, footer.last_offset);
        let text = format!("offsets {from} to {to}: {}", counted(footer.rows, "row"));
        objects.push(part(from, to, class, text));
        for range in &footer.rejected {
            let (from, to) = (range.first_offset, range.last_offset);
            let text = format!("rejected, {}: offsets {from} to {to}", range.reason);
            marks.push(part(from, to, "rejected", text));
        }
    }
    objects.extend(marks);
    objects
}

impl TableLink {
    fn faults(&self) -> Vec<String> {
        match &self.footer {
            Err(error) => vec![format!("{} can't be read: {error}", self.name)],
            Ok(_) => {
                let problems = self.problems.iter().flatten();
                problems.map(ToString::to_string).collect()
            }
        }
    }
}

/// Positions are not counted, so the scale is that of rows; what is missing is as wide as can be seen.
fn table_parts(links: &[TableLink]) -> Vec<Part> {
    const MISSING_WIDTH: f64 = 8.0;
    // An empty snapshot is an object, too.
    let weight = |link: &TableLink| link.footer.as_ref().map_or(0, |footer| footer.rows.max(1));
    let scale = BAR / links.iter().map(weight).sum::<u64>().max(1) as f64;
    let part = |x: f64, width: f64, class, text| Part {
        x: format!("{:.2}", x.clamp(0.0, BAR - width)),
        width: format!("{width:.2}"),
        class,
        text,
    };
    let (mut objects, mut marks) = (Vec::new(), Vec::new());
    let mut before = 0;
    for (index, link) in links.iter().enumerate() {
        let x = before as f64 * scale;
        let faults = link.faults().into_iter();
        marks
            .extend(faults.map(|fault| part(x - MISSING_WIDTH / 2.0, MISSING_WIDTH, "gap", fault)));
        let Ok(footer) = &link.footer else {
            continue;
        };
        before += weight(link);
        let class = if index % 2 == 0 {
            "object"
        } else {
            "object other"
        };
        let (first, last) = (footer.first(), footer.last());
        let text = format!(
            "positions {first} to {last}: {}",
            counted(footer.rows, "row")
        );
        let width = (weight(link) as f64 * scale).max(LEAST_WIDTH);
        objects.push(part(x, width, class, text));
    }
    objects.extend(marks);
    objects
}

impl LinkRow {
    fn of_table(link: &TableLink) -> Self {
        let footer = link.footer.as_ref().ok();
        let faults = link.faults();
        Self {
            key: link.name.key(),
            first: footer.map_or_else(String::new, |footer| footer.first().to_string()),
            last: footer.map_or_else(String::new, |footer| footer.last().to_string()),
            rows: footer.map_or_else(String::new, |footer| whole(footer.rows)),
            note: match link.name.part {
                ChangePart::Snapshot(number) => format!("part {number} of the snapshot"),
                ChangePart::Changes(_) => "changes".to_owned(),
            },
            before: match (&link.footer, link.problems.as_deref()) {
                (Err(_), _) => "can't be read",
                (_, None) => "",
                (_, Some([])) => "whole",
                (_, Some([ChainProblem::Overlap { .. }, ..])) => "overlap",
                (_, Some(_)) => "gap",
            }
            .to_owned(),
            is_fault: !faults.is_empty(),
        }
    }

    fn of(link: &Link) -> Self {
        let number =
            |number: Option<i64>| number.map_or_else(String::new, |known| known.to_string());
        let footer = link.footer.as_ref().ok();
        let reasons = footer.map(|footer| {
            let reasons = footer.rejected.iter();
            let reasons = reasons.map(|range| format!("{} {}", range.records(), range.reason));
            reasons.collect::<Vec<_>>().join(", ")
        });
        Self {
            key: link.key.clone(),
            first: number(footer.map(|footer| footer.first_offset)),
            last: number(footer.map(|footer| footer.last_offset)),
            rows: footer.map_or_else(String::new, |footer| whole(footer.rows)),
            note: reasons.unwrap_or_default(),
            before: match (&link.footer, &link.joint) {
                (Err(_), _) => "can't be read".to_owned(),
                (_, Some(Joint::Gap(offsets))) => {
                    format!(
                        "gap of {}",
                        whole(offsets.end().abs_diff(*offsets.start()) + 1)
                    )
                }
                (_, Some(Joint::Marks(offsets))) => {
                    let marks = offsets.end().abs_diff(*offsets.start()) + 1;
                    format!("whole but for {marks}, as marks of transactions take")
                }
                (_, Some(Joint::Overlap(_))) => "overlap".to_owned(),
                (_, Some(Joint::Whole)) => "whole".to_owned(),
                (_, None) => String::new(),
            },
            is_fault: fault(link).is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use ftap_lake::RejectedRange;

    use super::*;

    fn link(first_offset: i64, last_offset: i64, joint: Option<Joint>) -> Link {
        let rejected = RejectedRange {
            first_offset,
            last_offset: first_offset,
            reason: "not_json".into(),
        };
        let footer = TransactionFooter {
            topic: "cards".to_owned(),
            partition: 0,
            first_offset,
            last_offset,
            first_record: 0,
            rows: 9,
            rejected: vec![rejected],
            rejected_records: 1,
            writer_id: String::new(),
            checksum: 0,
        };
        Link {
            key: format!("transactions/2026-01-01/cards-0-{first_offset:020}.parquet"),
            footer: Ok(Arc::new(footer)),
            joint,
        }
    }

    #[test]
    fn a_chain_is_drawn_to_scale_with_its_gaps_and_rejections() {
        let chain = Chain {
            topic: "cards".to_owned(),
            partition: 0,
            objects: 3,
            links: vec![
                link(0, 99, None),
                link(100, 499, Some(Joint::Whole)),
                link(600, 999, Some(Joint::Gap(500..=599))),
            ],
        };
        let card = ChainCard::of(&chain);
        assert_eq!(
            card.summary,
            "offsets 0 to 999, 3 objects, 27 rows, 3 rejected"
        );
        assert_eq!(card.faults.len(), 1);
        assert!(card.faults[0].starts_with("gap: no object has the offsets 500 to 599;"));
        let drawn = |class: &str| -> Vec<(&str, &str)> {
            let parts = card.parts.iter();
            let parts = parts.filter(|part| part.class.starts_with(class));
            parts
                .map(|part| (part.x.as_str(), part.width.as_str()))
                .collect()
        };
        assert_eq!(
            drawn("object"),
            [
                ("0.00", "100.00"),
                ("100.00", "400.00"),
                ("600.00", "400.00")
            ]
        );
        assert_eq!(drawn("gap"), [("500.00", "100.00")]);
        assert_eq!(drawn("rejected").len(), 3);
        assert_eq!(card.links[0].before, "gap of 100");
        assert!(card.links[0].is_fault && !card.links[1].is_fault);
    }

    #[test]
    fn an_object_that_has_no_readable_footer_is_named() {
        let chain = Chain {
            topic: "cards".to_owned(),
            partition: 0,
            objects: 1_000,
            links: vec![Link {
                footer: Err("damaged".to_owned()),
                ..link(0, 9, None)
            }],
        };
        let card = ChainCard::of(&chain);
        assert!(card.parts.is_empty() && card.links[0].is_fault);
        assert!(card.faults[0].ends_with("can't be read: damaged"));
        assert!(card.summary.starts_with("the newest 1 of 1,000 objects"));
    }
}
