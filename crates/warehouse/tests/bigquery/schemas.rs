//! Columns of the objects and of the tables.

use super::place::{Place, number, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_column_is_added_and_files_without_it_still_load() {
    let place = Place::new().await;
    place.write_users(1, vec![("user_id", text("a"))]).await;
    place.drain().await.unwrap();
    place
        .write_users(2, vec![("user_id", text("b")), ("phone", text("1"))])
        .await;
    place.drain().await.unwrap();
    place.write_users(3, vec![("user_id", text("c"))]).await;
    place
        .write_users(4, vec![("email", text("d")), ("user_id", text("d"))])
        .await;
    place.drain().await.unwrap();
    place.assert_loaded_once("users_changes", "columns");
    let table = place.bigquery.table("users_changes").unwrap();
    let fields = table["schema"]["fields"].as_array().unwrap();
    let names: Vec<_> = fields
        .iter()
        .map(|field| field["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["user_id", "phone", "email"]);
    assert_eq!(table["clustering"]["fields"][0], "user_id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_column_of_another_type_is_named_and_other_tables_are_loaded() {
    let place = Place::new().await;
    place.write_users(1, vec![("zip", number(1))]).await;
    place.drain().await.unwrap();
    let key = place.write_users(2, vec![("zip", text("1"))]).await;
    place.write_fx(0, 2).await;
    let error = place.refusal().await;
    assert!(
        error.contains("column zip is INTEGER in my-project.platform.users_changes and STRING in")
            && error.contains(&key),
        "{error}"
    );
    place.assert_loaded_once("fx_rates", "beside the other");
    // Nothing was recorded that would be in the way of fixing it.
    assert!(
        place
            .bucket
            .object(&place.manifest("users_changes", 2))
            .is_none()
    );
}
