//! Whatever BigQuery and the bucket answer for a while, each object is loaded once.

use std::time::Duration;

use ftap_testing::bigquery::Operation::{
    Any, CreateDataset, CreateTable, GetDataset, GetJob, GetTable, Submit,
};
use ftap_testing::bigquery::{Fault as F, Rule};
use ftap_testing::gcs::{Fault as LakeFault, Operation as LakeOperation, Rule as LakeRule, Times};
use ftap_warehouse::load::Depth;

use super::place::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_bigquery_answers_for_a_while_each_object_is_loaded_once() {
    let some_time = Duration::from_millis(300);
    let refused = |on, status, reason| Rule::next(on, 2, F::Refuse(status, reason));
    for (name, rules) in [
        ("reply lost", vec![Rule::next(Submit, 1, F::CommitThenCut)]),
        (
            "500 after",
            vec![Rule::next(Submit, 1, F::CommitThenRefuse(500))],
        ),
        ("cut", vec![Rule::next(Submit, 2, F::Cut)]),
        ("hang", vec![Rule::next(Submit, 1, F::Hang)]),
        (
            "page",
            vec![
                Rule::next(Submit, 1, F::WebPage(200)),
                Rule::next(GetJob, 1, F::WebPage(502)),
            ],
        ),
        ("500 before", vec![refused(Submit, 500, "internalError")]),
        ("429", vec![refused(Any, 429, "rateLimitExceeded")]),
        ("rate", vec![refused(Submit, 403, "rateLimitExceeded")]),
        ("quota", vec![refused(Submit, 403, "quotaExceeded")]),
        (
            "token",
            vec![Rule::next(Submit, 1, F::Refuse(401, "authError"))],
        ),
        ("slow", vec![Rule::next(Submit, 1, F::SlowJob(some_time))]),
        (
            "hidden",
            vec![Rule::next(Submit, 1, F::HiddenJob(some_time))],
        ),
        (
            "hidden, reply lost",
            vec![
                Rule::next(Submit, 1, F::HiddenJob(some_time)),
                Rule::next(GetJob, 4, F::Cut),
            ],
        ),
        (
            "job fails",
            vec![Rule::next(
                Submit,
                3,
                F::JobFails("backendError", "try again"),
            )],
        ),
        (
            "job quota",
            vec![Rule::next(
                Submit,
                2,
                F::JobFails("quotaExceeded", "too many"),
            )],
        ),
        (
            "poll",
            vec![
                refused(GetJob, 503, "backendError"),
                Rule::next(GetJob, 1, F::Cut),
            ],
        ),
        (
            "table",
            vec![
                Rule::next(GetTable, 1, F::Cut),
                Rule::next(CreateTable, 1, F::CommitThenCut),
            ],
        ),
        (
            "dataset",
            vec![
                Rule::next(GetDataset, 1, F::Hang),
                Rule::next(CreateDataset, 1, F::CommitThenCut),
            ],
        ),
    ] {
        let place = Place::new().await;
        place.write_fx(0, 5).await;
        place.bigquery.set_rules(rules);
        let done = place.drain().await;
        assert!(done.is_ok(), "{name}: {done:?}");
        assert!(place.bigquery.rules_are_used_up(), "{name}");
        place.assert_loaded_once("fx_rates", name);
        assert_eq!(place.bigquery.rows("fx_rates"), 20, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_bucket_answers_for_a_while_each_object_is_loaded_once() {
    let late = LakeFault::LateCommit {
        status: 503,
        after: Duration::from_millis(150),
    };
    for fault in [
        LakeFault::CommitThenCut,
        LakeFault::CommitThenStatus(503),
        LakeFault::Status(503),
        LakeFault::CutBody,
        LakeFault::PreconditionFailed,
        late,
    ] {
        for key in ["00001.json", "00001.done.json", "00002.json"] {
            let place = Place::new().await;
            place.write_fx(0, 3).await;
            let rule = LakeRule {
                key_contains: Some(key.to_owned()),
                ..LakeRule::new(LakeOperation::Put, Times::Next(1), fault)
            };
            place.bucket.set_rules(vec![rule]);
            place.drain().await.unwrap();
            place.write_fx(3, 3).await;
            place.drain().await.unwrap();
            place.assert_loaded_once("fx_rates", &format!("{fault:?} of {key}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_takes_no_more_objects_than_a_job_and_all_are_loaded() {
    let mut place = Place::new().await;
    place.settings.policy.max_objects = 4;
    place.write_fx(0, 10).await;
    place.drain().await.unwrap();
    place.assert_loaded_once("fx_rates", "by objects");
    let jobs = place.bigquery.jobs();
    let sizes: Vec<_> = jobs.iter().map(|job| job.uris.len()).collect();
    assert_eq!(sizes, [4, 4, 2]);
    place.settings.policy.max_bytes = 1;
    place.write_fx(10, 3).await;
    place.drain().await.unwrap();
    place.assert_loaded_once("fx_rates", "by bytes");
    assert_eq!(place.bigquery.jobs().len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_done_is_never_asked_about_again() {
    let place = Place::new().await;
    place.write_fx(0, 2).await;
    place.drain().await.unwrap();
    let asked = place.bigquery.asked(GetJob);
    place.drain().await.unwrap();
    assert_eq!(place.bigquery.asked(GetJob), asked);
    assert_eq!(place.bigquery.asked(Submit), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_number_of_rows_than_the_objects_have_is_loaded_and_reported() {
    let place = Place::new().await;
    place.write_fx(0, 2).await;
    place.rule(Submit, 1, F::Miscounts);
    place.drain().await.unwrap();
    let mark = "bigquery/my-project/platform/fx_rates/00000000000000000001.done.json";
    let mark = place.bucket.object(mark).unwrap();
    let mark: serde_json::Value = serde_json::from_slice(&mark).unwrap();
    assert_eq!(
        (&mark["rows"], &mark["rows_loaded"]),
        (&8.into(), &9.into())
    );
    place.assert_loaded_once("fx_rates", "miscounted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_summary_spares_the_manifests_and_a_damaged_one_does_not() {
    let mut place = Place::new().await;
    place.settings.policy.max_objects = 1;
    place.settings.policy.manifests_a_summary = 4;
    place.write_fx(0, 10).await;
    place.drain().await.unwrap();
    let summary = place.manifest("fx_rates", 8).replace(".json", ".names");
    let whole = place.bucket.object(&summary).unwrap();
    let reads = |place: &Place| place.bucket.counts().gets;
    for (name, bytes, is_used) in [
        ("whole", whole.clone(), true),
        ("cut", whole[..whole.len() - 3].to_vec(), false),
        ("of another", [b"{}\n", &whole[..]].concat(), false),
    ] {
        place.bucket.remove(&summary).unwrap();
        place.lake.put_create(&summary, bytes.into()).await.unwrap();
        let before = reads(&place);
        place.drain().await.unwrap();
        let cost = reads(&place) - before;
        assert_eq!(cost < 10, is_used, "{name}: {cost} reads");
        place.assert_loaded_once("fx_rates", name);
    }
    // What it stands for may even be gone.
    place.bucket.remove(&summary).unwrap();
    place.lake.put_create(&summary, whole.into()).await.unwrap();
    for sequence in 1..8 {
        let key = place.manifest("fx_rates", sequence);
        place.bucket.remove(&key).unwrap();
    }
    place.write_fx(10, 2).await;
    place.drain().await.unwrap();
    place.assert_loaded_once("fx_rates", "without the manifests");
}

/// A consumer that is behind, or a backfill, writes into old folders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_folder_is_looked_at_unless_there_are_very_many_objects() {
    for (cheap, seen) in [(20_000, 6), (3, 4)] {
        let mut place = Place::new().await;
        place.settings.policy.cheap_look_objects = cheap;
        place.write_fx(0, 4).await;
        let mut loader = place.loader().await;
        loader.pass(Depth::Full).await.unwrap();
        place.write_fx(4, 2).await;
        loader.pass(Depth::Recent).await.unwrap();
        assert_eq!(place.bigquery.loads("fx_rates").len(), seen);
        loader.pass(Depth::Full).await.unwrap();
        place.assert_loaded_once("fx_rates", "in the end");
    }
}
