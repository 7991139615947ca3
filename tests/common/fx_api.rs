//! A fake of the FX API, with the faults that an API has.

use std::sync::{Arc, Mutex};

use ftap_testing::Scripted;

const GOOD: &str = r#"{"data":{"EUR":0.92,"DKK":6.87,"NOK":10.61,"SEK":10.43}}"#;

/// What it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Rates,
    /// A status, with one more header unless its name is empty.
    Status(u16, (&'static str, &'static str)),
    /// A page of something between the client and the API.
    Html,
    /// Half of the body.
    Cut,
    /// No answer.
    Hang,
}

/// The API on a free port.
pub(crate) struct FxApi {
    pub url: String,
    reply: Arc<Mutex<Reply>>,
    server: Scripted,
}

impl FxApi {
    pub(crate) fn start(reply: Reply) -> Self {
        let reply = Arc::new(Mutex::new(reply));
        let current = reply.clone();
        let server = Scripted::in_background(move |head| answer(*current.lock().unwrap(), head));
        Self {
            url: format!("{}/v1", server.address()),
            reply,
            server,
        }
    }

    /// Changes what it answers from now on.
    pub(crate) fn set(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    /// The heads of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.server.requests()
    }
}

fn answer(reply: Reply, head: &str) -> ftap_testing::Reply {
    use ftap_testing::Reply as Answer;
    let good = match head.split_once("date=") {
        Some((_, rest)) => format!(
            r#"{{"data":{{"{}":{}}}}}"#,
            &rest[..10],
            &GOOD[8..GOOD.len() - 1]
        ),
        None => GOOD.to_owned(),
    };
    match reply {
        Reply::Rates => Answer::ok(good),
        Reply::Status(status, ("", _)) => Answer::status(status).body("{}"),
        Reply::Status(status, (name, value)) => {
            Answer::status(status).header(name, value).body("{}")
        }
        Reply::Html => Answer::ok("<html>log in</html>"),
        Reply::Cut => Answer::ok(good).cut(),
        Reply::Hang => Answer::hang(),
    }
}
