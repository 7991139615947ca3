//! What is seen of the platform's services, as JSON for the dashboard and `/readyz`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use chrono::SecondsFormat;
use ftap_watch::{FolderFigures, KafkaFigures, LakeFigures, PostgresFigures, Seen, Sources};
use serde_json::{Value, json};

/// Null if nothing is watched.
pub(super) fn json(sources: &Sources) -> Value {
    let Sources {
        kafka,
        lake,
        postgres,
        ends: _,
    } = sources;
    if kafka.is_none() && lake.is_none() && postgres.is_none() {
        return Value::Null;
    }
    json!({
        "kafka": seen(kafka.as_ref(), kafka_json),
        "lake": seen(lake.as_ref(), lake_json),
        "postgres": seen(postgres.as_ref(), postgres_json),
    })
}

fn seen<T>(seen: Option<&Seen<T>>, show: fn(&T) -> Value) -> Value {
    let Some(seen) = seen else {
        return Value::Null;
    };
    // A clock that was set back makes figures new again.
    let age = |at: &SystemTime| at.elapsed().unwrap_or_default().as_secs_f64();
    json!({
        "up": if seen.off.is_some() { Value::Null } else { seen.is_up().into() },
        "off": seen.off,
        "error": seen.error,
        "age_seconds": seen.figures.as_ref().map(|(_, at)| age(at)),
        "figures": seen.figures.as_ref().map(|(figures, _)| show(figures)),
    })
}

fn kafka_json(figures: &KafkaFigures) -> Value {
    let partitions: Vec<_> = figures
        .partitions
        .iter()
        .map(|found| {
            json!({
                "partition": found.partition,
                "start": found.start,
                "end": found.end,
                "committed": found.committed,
                "lag": found.lag,
            })
        })
        .collect();
    json!({
        "bootstrap": figures.bootstrap,
        "topic": figures.topic,
        "lag": figures.partitions.iter().map(|found| found.lag).sum::<i64>(),
        "partitions": partitions,
    })
}

fn lake_json(figures: &LakeFigures) -> Value {
    let folder = |found: &FolderFigures| {
        let newest = found.newest.as_ref().map(|(key, written)| {
            json!({ "key": key, "written": written.to_rfc3339_opts(SecondsFormat::Secs, true) })
        });
        json!({
            "objects": found.objects,
            "bytes": found.bytes,
            "newest": newest,
            "complete": found.is_complete,
        })
    };
    let folders: BTreeMap<_, _> = figures
        .kinds
        .iter()
        .map(|(kind, found)| (*kind, folder(found)))
        .collect();
    json!({
        "place": figures.place,
        "folders": folders,
        "chain_ends": figures.chain_ends,
    })
}

fn postgres_json(figures: &PostgresFigures) -> Value {
    let slot = figures.slot.as_ref().map(|slot| {
        json!({
            "name": slot.name,
            "active": slot.is_active,
            "lag_bytes": slot.lag_bytes,
            "retained_bytes": slot.retained_bytes,
            "wal_status": slot.wal_status,
        })
    });
    let rows: BTreeMap<_, _> = figures.rows.iter().copied().collect();
    json!({ "address": figures.address, "rows": rows, "slot": slot })
}
