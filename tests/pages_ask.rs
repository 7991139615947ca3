//! The pages on which people ask: what is answered equals what `ftap` answers on the command line.

use crate::shell::{Answer, PATIENCE, Place, Running, raw, request};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::changes::{catch_up, files, lab, lake, read_file, user};
use crate::common::dlq::{
    assert_each_once, drain, good, lines, redrive, redriven_ids, said, write,
};
use crate::common::http::address_of;
use crate::common::process::Ftap;
use crate::common::{Lab, kafka};
use crate::shell::Done;

const MARKUP: &str = "<img src=x onerror=alert(1)>&'\"";

/// A run whose rows are all in the lake, and its address.
fn drained(place: &Place) -> (Running, String) {
    let mut command = place.ftap(&["run", "--rows", "2000", "--gcs-flush-seconds", "0.2"]);
    command.env("POSTGRES", "off");
    let running = Running::start(command);
    let url = running.url();
    let end = Instant::now() + PATIENCE;
    loop {
        let status = request(&url, "GET", "/api/status", "localhost").json();
        if status["meters"]["rows_committed"] == 2000 {
            break;
        }
        assert!(Instant::now() < end, "{status}");
        std::thread::sleep(Duration::from_millis(50));
    }
    // The pages look at the lake every few seconds.
    loop {
        let counted = ask(
            &url,
            &json!({"sql": "select count(*) as n from transactions"}),
        );
        if counted.body.contains(">2000<") {
            return (running, url);
        }
        assert!(Instant::now() < end, "{}", counted.body);
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn post(url: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    raw(
        url,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ),
    )
}

fn ask(url: &str, body: &Value) -> Answer {
    let headers = "Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\n";
    post(url, "/sql/query", headers, &body.to_string())
}

#[test]
fn a_statement_of_the_page_is_answered_as_ftap_query_answers_it() {
    let place = Place::new();
    let (_running, url) = drained(&place);

    let page = request(&url, "GET", "/sql", "localhost");
    assert_eq!(page.status, 200);
    for name in [
        "fct_transactions",
        "amount_usd",
        "mart_daily",
        "users_changes",
    ] {
        assert!(
            page.body.contains(&format!("data-name=\"{name}\"")),
            "{name}"
        );
    }

    let sql = "select category, count(*) as n, max(original_amt) as amount from transactions group by 1 order by 1";
    for format in ["csv", "json"] {
        let file = ask(&url, &json!({"sql": sql, "format": format}));
        let printed = place.run(&["query", "--format", format, sql]).ends_with(0);
        assert_eq!((file.status, file.body), (200, printed.stdout), "{format}");
    }
    let parquet = ask(&url, &json!({"sql": sql, "format": "parquet"}));
    assert!(parquet.body.starts_with("PAR1") && parquet.body.ends_with("PAR1"));
    let shown = ask(&url, &json!({"sql": sql}));
    let printed = place.run(&["query", "--format", "json", sql]).ends_with(0);
    for line in printed.stdout.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let (category, count) = (row["category"].as_str().unwrap(), &row["n"]);
        let cells = format!("<td>{category}</td><td class=\"number\">{count}</td>");
        assert!(shown.body.contains(&cells), "{cells}: {}", shown.body);
    }
    assert!(shown.body.contains("class=\"plot\""), "{}", shown.body);

    // Numbers are as they are: keys, years and rates have no separators and keep their digits.
    let keys = ask(
        &url,
        &json!({"sql": "select 20190326 as date_key, 2020 as year, 0.8812 as rate"}),
    );
    for cell in [">20190326<", ">2020<", ">0.8812<"] {
        assert!(keys.body.contains(cell), "{cell}: {}", keys.body);
    }

    // A thousand rows are shown, and that there are more.
    let all = ask(&url, &json!({"sql": "select trans_num from transactions"}));
    assert!(all.body.contains("1,000 rows") && all.body.contains("there are more"));
    assert_eq!(all.body.matches("<td>").count(), 1000);

    // Columns of one name are two columns.
    let joined = "select * from (select 1 as a) as x cross join (select 2 as a) as y";
    let joined = ask(&url, &json!({"sql": joined, "format": "json"}));
    assert_eq!(joined.body, "{\"a\":1,\"a_2\":2}\n");

    // Text is text, in names, values and charts.
    let literal = MARKUP.replace('\'', "''");
    let odd = format!(
        "select '{literal}' || value as \"{}\", value as n from generate_series(1, 3)",
        MARKUP.replace('"', "\"\"")
    );
    let odd = ask(&url, &json!({"sql": odd}));
    assert_eq!(odd.status, 200, "{}", odd.body);
    assert!(!odd.body.contains("<img"), "{}", odd.body);
    assert!(
        odd.body.contains("&#60;img src=x onerror=alert(1)&#62;"),
        "{}",
        odd.body
    );

    for sql in [
        "select\n  currncy\nfrom transactions",
        "select * from transaction",
        "selct 1",
        "drop table transactions",
        "copy transactions to '/tmp/x.csv'",
        "select * from '/etc/passwd'",
    ] {
        let refused = ask(&url, &json!({"sql": sql}));
        let printed = place.run(&["query", sql]).ends_with(2);
        assert_eq!(refused.status, 400, "{sql}");
        assert!(
            printed.stderr.contains(&refused.body),
            "{} {}",
            refused.body,
            printed.stderr
        );
    }
}

#[test]
fn charts_count_what_sql_counts() {
    let place = Place::new();
    let (_running, url) = drained(&place);
    let csv = |address: &str| {
        let answer = request(&url, "GET", address, "localhost");
        assert_eq!(answer.status, 200, "{address}: {}", answer.body);
        let lines: Vec<_> = answer.body.lines().map(str::to_owned).collect();
        lines
    };
    let query = |sql: &str| {
        let done = place.run(&["query", "--format", "csv", sql]).ends_with(0);
        let lines: Vec<_> = done.stdout.lines().map(str::to_owned).collect();
        lines
    };

    // All transactions of a merchant, not only those with fraud.
    let merchants = csv("/cards/merchant_fraud.csv");
    let sql = "select merchant_name, count(*) as transactions, sum(is_fraud) as fraud_transactions \
               from fct_transactions where merchant_name in \
               (select merchant_name from fct_transactions where is_fraud = 1) group by 1";
    let expected = query(sql);
    assert!(merchants.len() > 3, "{merchants:?}");
    assert_eq!(merchants.len(), expected.len().min(21));
    // Amounts follow the rates, which arrive meanwhile.
    for line in &merchants {
        let fields: Vec<_> = line.rsplitn(6, ',').collect();
        let counts = [fields[5], fields[4], fields[2]].join(",");
        assert!(expected.contains(&counts), "{counts}: {expected:?}");
    }

    // Days of the week have the numbers of `dim_date`.
    let week = csv("/cards/week.csv");
    let sql = "select weekday, left(weekday_name, 3) as day, \
               cast(extract(hour from transaction_datetime_UTC) as int) as hour, count(*) as transactions \
               from fct_transactions join dim_date using (date_key) group by 1, 2, 3 order by 1, 3";
    assert_eq!(week, query(sql));

    // Fraud alone has no rate.
    let all = request(&url, "GET", "/cards/by_hour", "localhost").body;
    assert!(
        all.contains("<th scope=\"col\" class=\"number\">hour"),
        "{all}"
    );
    let only = request(&url, "GET", "/cards/by_hour?fraud=only", "localhost").body;
    assert!(only.contains("A rate needs"), "{only}");
    assert!(!csv("/cards/by_hour.csv?fraud=only")[0].contains("fraud_bp"));
}

#[test]
fn a_page_with_a_wrong_filter_has_the_filters_and_the_fault() {
    let place = Place::new();
    let (_running, url) = drained(&place);
    let wrong = "?from=2020-06-21&to=2020-01-01&currency=EUR&fraud=only";
    let fault = "from=&#34;2020-06-21&#34; in the address: it is after the day of to";
    for address in ["/", "/analytics"] {
        let page = request(&url, "GET", &format!("{address}{wrong}"), "localhost");
        assert_eq!(page.status, 200, "{}", page.body);
        for part in ["<nav", "data-card=\"filters\"", fault] {
            assert!(page.body.contains(part), "{part}: {}", page.body);
        }
        // No other card has an answer.
        assert_eq!(page.body.matches("data-card").count(), 1, "{}", page.body);
    }
    let form = request(&url, "GET", &format!("/cards/filters{wrong}"), "localhost");
    for part in [
        "name=\"from\" value=\"2020-06-21\"",
        "name=\"to\" value=\"2020-01-01\"",
        "<option selected>EUR</option>",
        "<option value=\"only\" selected>",
    ] {
        assert!(form.body.contains(part), "{part}: {}", form.body);
    }
    let chart = request(
        &url,
        "GET",
        &format!("/cards/over_time{wrong}"),
        "localhost",
    );
    assert_eq!(chart.status, 400, "{}", chart.body);
}

#[test]
fn only_the_process_own_pages_may_send_statements() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("data/lake")).unwrap();
    let mut command = place.ftap(&["serve"]);
    command.env("POSTGRES", "off");
    let running = Running::start(command);
    let url = running.url();
    let body = json!({"sql": "select 1 as one"}).to_string();
    let kind = "Content-Type: application/json\r\n";
    let send = |headers: &str| post(&url, "/sql/query", headers, &body).status;
    assert_eq!(send(&format!("{kind}Sec-Fetch-Site: same-origin\r\n")), 200);
    assert_eq!(send(&format!("{kind}Origin: http://localhost\r\n")), 200);
    for other in [
        "",
        "Origin: http://evil.example\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\nOrigin: http://localhost\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        assert_eq!(send(&format!("{kind}{other}")), 403, "{other}");
    }
    // What a form of another site could send.
    for kind in ["text/plain", "application/x-www-form-urlencoded"] {
        let headers = format!("Content-Type: {kind}\r\nSec-Fetch-Site: same-origin\r\n");
        assert_eq!(send(&headers), 415, "{kind}");
    }

    let long = |bytes: usize| format!("select 1 as one -- {}", "x".repeat(bytes));
    assert_eq!(ask(&url, &json!({"sql": long(60_000)})).status, 200);
    assert_eq!(ask(&url, &json!({"sql": long(70_000)})).status, 413);
    for nonsense in [
        json!({}),
        json!({"sql": 1}),
        json!({"sql": "select 1", "format": "exe"}),
    ] {
        assert!(
            (400..500).contains(&ask(&url, &nonsense).status),
            "{nonsense}"
        );
    }
    let empty = ask(&url, &json!({"sql": " \n"}));
    assert_eq!(
        (empty.status, empty.body.as_str()),
        (400, "the statement is empty")
    );
}

/// `ftap serve` on what a test left, and its address.
fn served(lab: &mut Lab) -> (Ftap, String) {
    lab.set("DASHBOARD_ADDR", "127.0.0.1:0");
    let serving = lab.start(["serve"]);
    let address = address_of(&serving);
    (serving, address)
}

fn query(lab: &Lab, sql: &str) -> Vec<Value> {
    let mut command = lab.command(["query", "--format", "json", sql]);
    let done = Done::from(command.output().unwrap()).ends_with(0);
    let lines = done.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn page(address: &str, path: &str) -> String {
    let answer = request(address, "GET", path, "localhost");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    assert!(!answer.body.contains("<img"), "{path}: {}", answer.body);
    answer.body
}

/// Text as a part of an address.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn changes_are_shown_with_values_commits_and_the_validity_of_the_models() {
    let Some((mut lab, postgres)) = lab("pages-changes") else {
        return;
    };
    catch_up(&lab);
    let text = MARKUP.replace('\'', "''");
    let (one, two, three, new) = (user(1), user(2), user(3), user(900));
    postgres.sql(&format!(
        "UPDATE users SET city = 'Rome' WHERE user_id = '{one}'"
    ));
    postgres.sql(&format!(
        "UPDATE users SET job = '{text}', first_name = '{text}' WHERE user_id = '{one}';
         DELETE FROM users WHERE user_id = '{two}';
         UPDATE users SET user_id = '{new}' WHERE user_id = '{three}';
         INSERT INTO merchants VALUES ('{text}', 1, 2, 3)"
    ));
    catch_up(&lab);
    let (_serving, address) = served(&mut lab);

    let shown = page(&address, &format!("/changes?of=users&key={one}"));
    let models =
        format!("select * from dim_users_history where user_id = '{one}' order by version");
    let versions = query(&lab, &models);
    assert_eq!(versions.len(), 3);
    let second = |value: &Value| {
        let text = value.as_str().unwrap();
        text[..19].replace('T', " ")
    };
    for version in &versions {
        let validity = match (&version["valid_from"], &version["valid_to"]) {
            (Value::Null, to) => format!("valid from the beginning to {}", second(to)),
            (from, Value::Null) => format!("{} · valid from then until now", second(from)),
            (from, to) => format!("{} · valid from then to {}", second(from), second(to)),
        };
        assert!(shown.contains(&validity), "{validity}: {shown}");
    }
    let cells = "<tr><th scope=\"row\">city</th><td>Oslo</td><td>Rome</td></tr>";
    assert!(shown.contains(cells), "{shown}");
    assert!(
        shown.contains("<td>First 1</td><td>&#60;img src=x"),
        "{shown}"
    );
    let commits = format!(
        "select _commit_lsn as lsn, _xid as xid from users_changes where user_id = '{one}' and _op = 'update'"
    );
    for commit in query(&lab, &commits) {
        let lsn = commit["lsn"].as_i64().unwrap();
        let place = format!("<code>{:X}/{:X}</code>", lsn >> 32, lsn & 0xffff_ffff);
        assert!(shown.contains(&place), "{place}: {shown}");
        assert!(shown.contains(&format!("transaction {}<", commit["xid"])));
    }

    let deleted = page(&address, &format!("/changes?of=users&key={two}"));
    assert!(deleted.contains("<strong>delete</strong>"), "{deleted}");
    let renamed = page(&address, &format!("/changes?of=users&key={three}"));
    assert!(
        renamed.contains(&format!("the key became {new}")),
        "{renamed}"
    );
    let unknown = page(&address, "/changes?of=users&key=unknown");
    assert!(unknown.contains("has no user with this key"), "{unknown}");

    let newest = page(&address, "/changes");
    for part in [
        "50 users",
        "5 merchants",
        "<strong>delete</strong>",
        "<strong>insert</strong>",
        cells,
    ] {
        assert!(newest.contains(part), "{part}: {newest}");
    }
    // Found by a part of the name or of the id, whatever is in them.
    for (of, text, key) in [
        ("users", "<IMG src", one.as_str()),
        ("users", "first 7", &user(7)),
        ("users", "0000900", &new),
        ("merchants", MARKUP, ""),
    ] {
        let found = page(&address, &format!("/changes?of={of}&q={}", encoded(text)));
        assert_eq!(found.matches("<tr><td><a").count(), 1, "{text}: {found}");
        if of == "users" {
            assert!(found.contains(&format!("key={key}\"")), "{text}: {found}");
        }
    }
    // Only what came after the first copy is a change.
    for (key, changes) in [(user(7), 0), (one.clone(), 2)] {
        let found = page(&address, &format!("/changes?of=users&q={key}"));
        let cell = format!("<td class=\"number\">{changes}</td>");
        assert!(found.contains(&cell), "{cell}: {found}");
    }
    let merchants = page(&address, "/changes?of=merchants&q=");
    for part in [
        "<option value=\"merchants\" selected>",
        "Newest changes of merchants",
        "<strong>insert</strong>",
    ] {
        assert!(merchants.contains(part), "{part}: {merchants}");
    }
    assert!(!merchants.contains(cells), "{merchants}");
    let merchants = page(&address, "/changes?of=merchants&q=e");
    assert!(
        !merchants.contains("<th scope=\"col\">name</th>"),
        "{merchants}"
    );
    let merchant = page(
        &address,
        &format!("/changes?of=merchants&key={}", encoded(MARKUP)),
    );
    assert!(merchant.contains("<strong>insert</strong>"), "{merchant}");
    assert_eq!(
        request(&address, "GET", "/changes?of=prices", "localhost").status,
        400
    );
}

#[test]
fn without_changes_the_page_tells_how_they_are_captured() {
    let mut lab = Lab::new("pages-no-changes").without_broker();
    std::fs::create_dir_all(lab.path("lake")).unwrap();
    let (_serving, address) = served(&mut lab);
    let empty = page(&address, "/changes");
    assert!(
        empty.contains("No change is captured") && empty.contains("POSTGRES_HOST"),
        "{empty}"
    );
}

#[test]
fn messages_and_rejected_ones_are_searched_and_shown_as_text() {
    searched_and_shown_as_text("topic");
}

#[test]
fn rejected_messages_of_the_lake_are_searched_and_shown_as_text() {
    searched_and_shown_as_text("lake");
}

fn searched_and_shown_as_text(dead_letters: &str) {
    let mut lab = Lab::shared("pages-messages");
    lab.set("DEAD_LETTERS", dead_letters);
    lab.start(["produce"]).wait_for_success();
    let odd = format!("{{\"a\": \"{MARKUP}\"}}");
    let payloads = [Some(odd.into_bytes()), Some(vec![0xff, 0x00, 0x01])];
    kafka::produce(lab.broker(), lab.topic(), 1, &payloads);
    drain(&lab);
    let (_serving, address) = served(&mut lab);

    // As `ftap tap` prints them.
    let mut tap = lab.command(["tap", "--from", "beginning", "--count", "1"]);
    let tapped = Done::from(tap.output().unwrap()).ends_with(0);
    let tapped: Value = serde_json::from_str(tapped.stdout.trim()).unwrap();
    let (partition, offset) = (&tapped["partition"], &tapped["offset"]);
    let exact = page(
        &address,
        &format!("/messages?partition={partition}&offset={offset}"),
    );
    let place = format!("<strong>partition {partition}, offset {offset}</strong>");
    assert!(exact.contains(&place), "{exact}");
    let number = tapped["message"]["trans_num"].as_str().unwrap();
    assert!(exact.contains(number), "{exact}");
    assert_eq!(exact.matches("<li>").count(), 100);
    let key = tapped["key"].as_str().unwrap();
    let keyed = page(&address, &format!("/messages?key={}", encoded(key)));
    let shown = keyed.matches("<li>").count();
    assert!(
        shown >= 1 && keyed.matches(&format!("key <code>{key}</code>")).count() == shown,
        "{keyed}"
    );

    // Of the newest ones the odd ones are the last of their partition.
    let newest = page(&address, "/messages?partition=1");
    assert_eq!(newest.matches("<li>").count(), 100);
    assert!(newest.contains("&#60;img src=x"), "{newest}");
    assert!(newest.contains("<pre>hex ff 00 01</pre>"), "{newest}");
    let later = page(&address, "/messages?time=2199-01-01T00:00");
    assert!(later.contains("No message fits."), "{later}");
    let earlier = page(&address, "/messages?time=1999-01-01T00:00");
    assert_eq!(earlier.matches("<li>").count(), 100);
    let wrong = page(&address, "/messages?offset=x%3Cimg%3E");
    assert!(wrong.contains("expected a number from 0"), "{wrong}");

    let rejected = page(&address, "/messages?in=quarantine");
    let listed = lines(&lab, &["list", "--json"]);
    assert_eq!(listed.len(), 2);
    assert_eq!(rejected.matches("<li>").count(), 2);
    for entry in &listed {
        let (id, reason) = (
            entry["id"].as_str().unwrap(),
            entry["reason"].as_str().unwrap(),
        );
        for part in [
            format!("id <code>{id}</code>"),
            format!("<strong>{reason}</strong>"),
        ] {
            assert!(rejected.contains(&part), "{part}: {rejected}");
        }
        let (partition, offset) = id.split_once('-').unwrap();
        let one = format!("/messages?in=quarantine&partition={partition}&offset={offset}");
        assert!(page(&address, &one).contains(&format!("id <code>{id}</code>")));
    }
    assert!(
        rejected.contains("&#60;img src=x") && rejected.contains("hex ff 00 01"),
        "{rejected}"
    );
    assert!(rejected.contains("ftap dlq redrive"), "{rejected}");
    // Of the two payloads, one is not text.
    assert_eq!(rejected.matches("can't be edited here").count(), 1);
    let elsewhere = page(&address, "/messages?in=quarantine&partition=0");
    assert!(
        elsewhere.contains("No rejected message fits."),
        "{elsewhere}"
    );

    let export = lab.path("open.jsonl");
    said(&lab, &["list", "--export", export.to_str().unwrap()]);
    let exported = std::fs::read_to_string(&export).unwrap();
    let repaired = exported.lines().enumerate().map(|(number, line)| {
        let entry: Value = serde_json::from_str(line).unwrap();
        json!({"id": entry["id"], "payload": good(number)})
    });
    let file = lab.path("repaired.jsonl");
    write(&file, &repaired.collect::<Vec<_>>());
    redrive(&lab, &["--from", file.to_str().unwrap()]);
    let sent = page(&address, "/messages?in=quarantine");
    assert_eq!(sent.matches(" · sent again</strong>").count(), 2, "{sent}");
}

#[test]
fn the_chains_of_captured_tables_are_drawn_and_a_missing_object_is_marked_with_its_range() {
    let Some((mut lab, postgres)) = lab("pages-table-chains") else {
        return;
    };
    catch_up(&lab);
    for city in ["Rome", "Paris", "Turku"] {
        postgres.sql(&format!("UPDATE users SET city = '{city}'"));
        catch_up(&lab);
    }
    let (serving, address) = served(&mut lab);
    let chains = page(&address, "/cards/lake_tables");
    for part in [
        "<h3>users</h3>",
        "<h3>merchants</h3>",
        "snapshot 1, 4 objects, 200 rows",
        "part 1 of the snapshot",
    ] {
        assert!(chains.contains(part), "{part}: {chains}");
    }
    assert_eq!(chains.matches(", no gap").count(), 2, "{chains}");
    assert_eq!(chains.matches("class=\"object").count(), 5, "{chains}");
    drop(serving);

    let users = files(lake(&lab), "users");
    assert_eq!(users.len(), 4, "{users:?}");
    // The snapshot's name comes last.
    let last = |file: &std::path::Path| {
        let row = read_file(file).pop().unwrap();
        format!(
            "{:X}/{:X}#{}",
            row.lsn >> 32,
            row.lsn & 0xffff_ffff,
            row.seq
        )
    };
    let (before, removed) = (last(&users[0]), last(&users[1]));
    std::fs::remove_file(&users[1]).unwrap();
    let (_serving, address) = served(&mut lab);
    let chains = page(&address, "/cards/lake_tables");
    assert_eq!(chains.matches(", no gap").count(), 1, "{chains}");
    assert_eq!(chains.matches("class=\"gap\"").count(), 1, "{chains}");
    let fault = format!("changes after {before} up to {removed} are missing");
    assert!(chains.contains(&fault), "no {fault:?} in {chains}");
}

#[test]
fn a_rejected_message_is_edited_and_sent_again_once() {
    edited_and_sent_again_once("topic");
}

#[test]
fn a_rejected_message_of_the_lake_is_edited_and_sent_again_once() {
    edited_and_sent_again_once("lake");
}

fn edited_and_sent_again_once(dead_letters: &str) {
    let mut lab = Lab::shared("pages-send-again");
    lab.set("DEAD_LETTERS", dead_letters);
    lab.start(["produce"]).wait_for_success();
    let odd = format!("{{\"a\": \"</textarea>{MARKUP}\"}}");
    let (broker, topic) = (lab.broker(), lab.topic());
    kafka::produce_one(broker, topic, 1, Some("odd key"), odd.as_bytes(), &[]);
    let (_serving, address) = served(&mut lab);
    let send = |headers: &str, key: &str, payload: &str| {
        let body = json!({"key": key, "payload": payload}).to_string();
        post(&address, "/messages/send", headers, &body)
    };
    let own = "Content-Type: application/json\r\nSec-Fetch-Site: same-origin\r\n";
    drain(&lab);
    let id = lines(&lab, &["list", "--json"])[0]["id"].clone();
    let id = id.as_str().unwrap();

    let shown = page(&address, "/messages?in=quarantine");
    assert_eq!(shown.matches("<textarea").count(), 1, "{shown}");
    assert_eq!(shown.matches("</textarea>").count(), 1, "{shown}");
    assert!(shown.contains(&format!("data-send=\"{id}\"")), "{shown}");
    // By its own key as well as by its id.
    for (key, count) in [("odd%20key", 1), (id, 1), ("odd", 0)] {
        let found = page(&address, &format!("/messages?in=quarantine&key={key}"));
        assert_eq!(found.matches("<textarea").count(), count, "{key}: {found}");
    }

    for (key, payload, code, reason) in [
        (
            id,
            "{\"a\": 1}",
            422,
            "would be rejected again: missing_field:",
        ),
        (id, "no", 422, "would be rejected again: not_json"),
        ("1-999999", good(1).as_str(), 422, "there is no such entry"),
        (MARKUP, good(1).as_str(), 422, "is not an entry"),
    ] {
        let refused = send(own, key, payload);
        assert_eq!(refused.status, code, "{key} {payload}: {}", refused.body);
        assert!(refused.body.contains(reason), "{}", refused.body);
    }
    let elsewhere = "Content-Type: application/json\r\nSec-Fetch-Site: cross-site\r\n";
    assert_eq!(send(elsewhere, id, &good(1)).status, 403);
    assert!(redriven_ids(&lab).is_empty());

    let sent = send(own, id, &good(1));
    assert_eq!(sent.status, 200, "{}", sent.body);
    let twice = send(own, id, &good(2));
    assert_eq!(twice.status, 409, "{}", twice.body);
    assert!(
        twice.body.contains("was sent again before"),
        "{}",
        twice.body
    );
    for search in ["", "&key=odd%20key"] {
        let shown = page(&address, &format!("/messages?in=quarantine{search}"));
        assert!(shown.contains(" · sent again</strong>"), "{shown}");
        assert!(!shown.contains("<textarea"), "{shown}");
    }
    assert_each_once(&lab, 1);
}
