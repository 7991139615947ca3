//! Requests to answers.

use std::sync::Arc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use serde_json::{Value, json};

use super::rule::{Fault, Operation, fate};
use super::server::Shared;
use super::state::{Plan, State, TableState, text};
use crate::http::{Answer, Cut, respond};

pub(crate) async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Answer, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_client_gone| Cut)?.to_bytes();
    let path = percent_encoding::percent_decode_str(head.uri.path())
        .decode_utf8_lossy()
        .into_owned();
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let Some((operation, names)) = route(&head.method, &parts) else {
        return Ok(refuse(
            501,
            "notImplemented",
            &format!("{} {path}", head.method),
        ));
    };
    let sent = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let fault = {
        let mut state = shared.state();
        *state.asked.entry(operation).or_default() += 1;
        let token = head.headers.get(AUTHORIZATION);
        if token.is_none_or(|token| !token.as_bytes().starts_with(b"Bearer ")) {
            state.without_token += 1;
        }
        fate(&mut state.rules, operation)
    };
    let plan = match &fault {
        None => Plan::Usual,
        Some(Fault::JobFails(reason, message)) => Plan::Fails(reason, message),
        Some(Fault::SlowJob(time)) => Plan::Takes(*time),
        Some(Fault::HiddenJob(time)) => Plan::Hidden(*time),
        Some(Fault::Miscounts) => Plan::Miscounts,
        Some(Fault::Refuse(status, reason)) => {
            return Ok(refuse(*status, reason, "refused by a rule"));
        }
        Some(Fault::Cut) => return Err(Cut),
        Some(Fault::Hang) => {
            // Until the client closes the connection, and this with it.
            std::future::pending::<()>().await;
            return Err(Cut);
        }
        Some(Fault::WebPage(status)) => {
            let page = "<html><body>Sign in to continue</body></html>";
            return Ok(respond(
                *status,
                &[(CONTENT_TYPE, "text/html".to_owned())],
                page.to_owned().into(),
            ));
        }
        Some(Fault::CommitThenRefuse(_) | Fault::CommitThenCut) => Plan::Usual,
    };
    let done = perform(&mut shared.state(), operation, &names, sent, &plan);
    match fault {
        Some(Fault::CommitThenCut) => Err(Cut),
        Some(Fault::CommitThenRefuse(status)) => Ok(refuse(
            status,
            "backendError",
            "done, and refused by a rule",
        )),
        _ => Ok(done),
    }
}

fn route<'a>(method: &Method, parts: &[&'a str]) -> Option<(Operation, Vec<&'a str>)> {
    use Operation as O;
    let ["bigquery", "v2", "projects", _project, rest @ ..] = parts else {
        return None;
    };
    let is_get = method == Method::GET;
    let is_post = method == Method::POST;
    Some(match rest {
        ["datasets"] if is_post => (O::CreateDataset, vec![]),
        ["datasets", dataset] if is_get => (O::GetDataset, vec![dataset]),
        ["datasets", dataset, "tables"] if is_post => (O::CreateTable, vec![dataset]),
        ["datasets", dataset, "tables", table] if is_get => (O::GetTable, vec![dataset, table]),
        ["jobs"] if is_post => (O::Submit, vec![]),
        ["jobs", job] if is_get => (O::GetJob, vec![job]),
        ["queries"] if is_post => (O::Query, vec![]),
        ["queries", job] if is_get => (O::Query, vec![job]),
        _ => return None,
    })
}

fn perform(
    state: &mut State,
    operation: Operation,
    names: &[&str],
    sent: Value,
    plan: &Plan,
) -> Answer {
    state.settle();
    let not_found = |what: String| refuse(404, "notFound", &format!("Not found: {what}"));
    let duplicate = |what: String| refuse(409, "duplicate", &format!("Already Exists: {what}"));
    match (operation, names) {
        (Operation::GetDataset, [dataset]) => match &state.dataset {
            Some(found) if found["datasetReference"]["datasetId"] == *dataset => ok(found),
            _ => not_found(format!("Dataset {dataset}")),
        },
        (Operation::CreateDataset, _) => match &state.dataset {
            Some(_) => duplicate("Dataset".to_owned()),
            None => ok(state.dataset.insert(sent)),
        },
        (Operation::GetTable, [_, table]) => match state.tables.get(*table) {
            Some(found) => ok(&found.made),
            None => not_found(format!("Table {table}")),
        },
        (Operation::CreateTable, _) => {
            let name = text(&sent["tableReference"]["tableId"]);
            if state.dataset.is_none() {
                return not_found("Dataset".to_owned());
            }
            if state.tables.contains_key(&name) {
                return duplicate(format!("Table {name}"));
            }
            let table = TableState {
                made: sent.clone(),
                loads: Vec::new(),
                rows: 0,
            };
            state.tables.insert(name, table);
            ok(&sent)
        }
        (Operation::Submit, _) => {
            let id = text(&sent["jobReference"]["jobId"]);
            let is_id = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            if id.is_empty() || id.len() > 1024 || !id.chars().all(is_id) {
                return refuse(400, "invalid", "Invalid job ID");
            }
            if state.submit(&id, sent, plan) {
                ok(&state.show_job(&id).unwrap_or_default())
            } else {
                duplicate(format!("Job {id}"))
            }
        }
        (Operation::GetJob, [id]) => match state.show_job(id) {
            Some(job) => ok(&job),
            None => not_found(format!("Job {id}")),
        },
        (Operation::Query, [id]) => match state.queries.get(*id) {
            Some(result) => ok(result),
            None => not_found(format!("Job {id}")),
        },
        (Operation::Query, _) => query(state, &text(&sent["query"])),
        _ => refuse(501, "notImplemented", "not known here"),
    }
}

/// The one query there is; its result comes when it is asked for again, as that of a slow one.
fn query(state: &mut State, sql: &str) -> Answer {
    let Some((table, names)) = parse(sql) else {
        return refuse(501, "notImplemented", sql);
    };
    let (all, different) = match state.count(&table, &names) {
        Ok(Some(counts)) => counts,
        Ok(None) => return refuse(404, "notFound", &format!("Not found: Table {table}")),
        Err(problem) => return refuse(400, "invalidQuery", &problem),
    };
    let id = format!("query-{}", state.queries.len());
    let reference = json!({"projectId": "p", "jobId": id});
    let field = |name: &str| json!({"name": name, "type": "INTEGER"});
    let value = |value: u64| json!({"v": value.to_string()});
    let result = json!({
        "jobComplete": true,
        "jobReference": reference,
        "schema": {"fields": [field("different"), field("all_rows")]},
        "rows": [{"f": [value(different), value(all)]}],
        "totalRows": "1",
    });
    state.queries.insert(id, result);
    ok(&json!({"jobComplete": false, "jobReference": reference}))
}

fn parse(sql: &str) -> Option<(String, Vec<&str>)> {
    let (before, rest) = sql.split_once(" FROM `")?;
    let (table, rest) = rest.split_once("` GROUP BY ")?;
    let (names, _) = rest.split_once(')')?;
    let is_known = before.ends_with("(SELECT COUNT(*) AS n");
    let table = table.rsplit('.').next()?.to_owned();
    is_known.then(|| (table, names.split(", ").collect()))
}

fn ok(value: &Value) -> Answer {
    respond(
        200,
        &[(CONTENT_TYPE, "application/json".to_owned())],
        value.to_string().into(),
    )
}

fn refuse(status: u16, reason: &str, message: &str) -> Answer {
    let error = json!({"message": message, "domain": "global", "reason": reason});
    let body = json!({"error": {"code": status, "message": message, "errors": [error]}});
    respond(
        status,
        &[(CONTENT_TYPE, "application/json".to_owned())],
        body.to_string().into(),
    )
}
