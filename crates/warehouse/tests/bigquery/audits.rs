//! What the audit says while a load is under way, and of what should not be.

use std::time::Duration;

use ftap_testing::bigquery::Fault;
use ftap_testing::bigquery::Operation::Submit;
use ftap_warehouse::audit::{TableAudit, audit};
use ftap_warehouse::client::BigQueryClient;
use ftap_warehouse::load::Depth;

use super::place::Place;

async fn audit_fx(place: &Place) -> TableAudit {
    let client = BigQueryClient::open(&place.settings).await.unwrap();
    let audits = audit(&client, &place.lake, &place.settings).await.unwrap();
    let found = audits.into_iter().find(|audit| audit.table == "fx_rates");
    found.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_under_way_is_neither_missing_nor_doubled() {
    let place = Place::new().await;
    place.write_fx(0, 2).await;
    let before = audit_fx(&place).await;
    assert_eq!((before.objects_behind, before.rows_behind), (2, 8));
    assert!(before.is_exact(), "{before:?}");

    let slow = Duration::from_millis(1500);
    place.rule(Submit, 1, Fault::SlowJob(slow));
    let mut loader = place.loader().await;
    let pass = loader.pass(Depth::Full);
    tokio::time::timeout(Duration::from_millis(500), pass)
        .await
        .unwrap_err();
    let during = audit_fx(&place).await;
    assert_eq!((during.objects_on_the_way, during.rows_on_the_way), (2, 8));
    assert!(during.is_exact(), "{during:?}");

    // Done but not marked: the loader that submitted it is dead.
    while place.bigquery.rows("fx_rates") == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let after = audit_fx(&place).await;
    assert_eq!((after.objects, after.rows), (2, 8));
    assert_eq!((after.stored.rows, after.stored.distinct), (8, 8));
    assert!(after.is_exact(), "{after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_counted_by_the_objects_and_by_bigquery() {
    let place = Place::new().await;
    place.write_fx(0, 3).await;
    place.drain().await.unwrap();
    place.bigquery.tamper("fx_rates", true);
    let audit = audit_fx(&place).await;
    assert_eq!((audit.missing(), audit.doubled()), (0, 4), "{audit:?}");
    assert!(!audit.is_exact());
    place.bigquery.tamper("fx_rates", false);
    assert!(audit_fx(&place).await.is_exact());
    place.bigquery.tamper("fx_rates", false);
    let audit = audit_fx(&place).await;
    assert_eq!((audit.missing(), audit.doubled()), (4, 0), "{audit:?}");
    // Not even the table is there.
    place.bigquery.drop_table("fx_rates");
    assert_eq!(audit_fx(&place).await.missing(), 12);
}
