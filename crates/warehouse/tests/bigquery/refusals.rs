//! What only a person can fix ends the load, and says what to fix.

use ftap_testing::bigquery::Fault as F;
use ftap_testing::bigquery::Operation::{
    self, CreateDataset, CreateTable, GetDataset, GetTable, Submit,
};

use super::place::Place;

async fn says(on: Operation, fault: F, wanted: &[&str]) {
    let place = Place::new().await;
    place.write_fx(0, 1).await;
    place.rule(on, 9, fault);
    let error = place.refusal().await;
    for part in wanted {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
    assert!(!error.contains("test-endpoint"), "{error}");
    assert_eq!(place.bigquery.rows("fx_rates"), 0);
    // Once it is fixed, everything continues.
    place.bigquery.set_rules(Vec::new());
    place.drain().await.unwrap();
    place.assert_loaded_once("fx_rates", &error);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_that_lacks_is_named() {
    let denied = || F::Refuse(403, "accessDenied");
    says(
        GetDataset,
        denied(),
        &["my-project.platform", "bigquery.datasets.get"],
    )
    .await;
    says(CreateDataset, denied(), &["bigquery.datasets.create"]).await;
    says(
        GetTable,
        denied(),
        &["my-project.platform.fx_rates", "bigquery.tables.get"],
    )
    .await;
    says(CreateTable, denied(), &["bigquery.tables.create"]).await;
    says(
        Submit,
        denied(),
        &["bigquery.jobs.create", "bigquery.tables.updateData"],
    )
    .await;
    let job = F::JobFails(
        "accessDenied",
        "Access Denied: File gs://lake/x: Permission denied",
    );
    says(Submit, job, &["storage.objects.get in the bucket lake"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_else_only_a_person_can_fix_is_reported() {
    says(
        GetDataset,
        F::Refuse(401, "authError"),
        &["GOOGLE_APPLICATION_CREDENTIALS", "clock"],
    )
    .await;
    says(
        GetDataset,
        F::Refuse(403, "accessNotConfigured"),
        &["enable the BigQuery API"],
    )
    .await;
    says(
        Submit,
        F::Refuse(403, "billingNotEnabled"),
        &["enable billing"],
    )
    .await;
    says(Submit, F::Refuse(400, "invalid"), &["BIGQUERY_PROJECT"]).await;
    says(
        Submit,
        F::Refuse(404, "notFound"),
        &["BIGQUERY_DATASET", "BIGQUERY_LOCATION"],
    )
    .await;
    says(
        Submit,
        F::JobFails("invalid", "Field zip has changed type"),
        &["Field zip has changed type"],
    )
    .await;
    says(
        Submit,
        F::JobFails(
            "invalid",
            "Cannot read and write in different locations: source: EU",
        ),
        &["in the location of the bucket lake", "BIGQUERY_LOCATION"],
    )
    .await;
    says(
        Submit,
        F::JobFails("notFound", "Not found: URI gs://lake/x"),
        &["restore the object"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dataset_elsewhere_is_reported() {
    let mut place = Place::new().await;
    place.settings.location = Some("EU".to_owned());
    place.drain().await.unwrap();
    place.settings.location = Some("US".to_owned());
    let error = place.refusal().await;
    assert!(
        error.starts_with("BIGQUERY_LOCATION is US and the dataset my-project.platform is in EU"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_was_deleted_is_not_silently_recreated() {
    let place = Place::new().await;
    place.write_fx(0, 3).await;
    place.drain().await.unwrap();
    place.bigquery.drop_table("fx_rates");
    place.write_fx(3, 1).await;
    let error = place.refusal().await;
    assert!(
        error.contains("platform.fx_rates is not there any more, though 3 objects were loaded"),
        "{error}"
    );
    // The remedy that it gives loads everything again, as other jobs.
    for key in place.bucket.keys() {
        if key.starts_with("bigquery/my-project/platform/fx_rates/") {
            place.bucket.remove(&key).unwrap();
        }
    }
    place.drain().await.unwrap();
    place.assert_loaded_once("fx_rates", "anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_is_gone_or_replaced_stops_the_load() {
    let mut place = Place::new().await;
    place.settings.policy.max_objects = 1;
    place.write_fx(0, 3).await;
    place.drain().await.unwrap();
    let middle = place.manifest("fx_rates", 2);
    let bytes = place.bucket.object(&middle).unwrap();
    place.bucket.remove(&middle).unwrap();
    let error = place.refusal().await;
    assert!(
        error.contains(&middle) && error.contains("does not follow"),
        "{error}"
    );
    // Another in its place does not go with the next.
    place.lake.put_create(&middle, bytes.into()).await.unwrap();
    place.age_manifest(&middle, 1).await;
    let error = place.refusal().await;
    assert!(error.contains(&place.manifest("fx_rates", 3)), "{error}");
    assert_eq!(place.bigquery.jobs().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_may_have_been_forgotten_is_not_guessed_at() {
    let place = Place::new().await;
    place.write_fx(0, 1).await;
    place.rule(Submit, 1, F::Refuse(403, "accessDenied"));
    place.refusal().await;
    let key = place.manifest("fx_rates", 1);
    place.age_manifest(&key, 151).await;
    let error = place.refusal().await;
    assert!(
        error.contains(&format!("whether {key} was loaded can't be determined"))
            && error.contains("180 days"),
        "{error}"
    );
    place.age_manifest(&key, 149).await;
    place.drain().await.unwrap();
    place.assert_loaded_once("fx_rates", "not forgotten");
}
