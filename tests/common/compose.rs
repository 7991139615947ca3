//! docker-compose.yml and the Dockerfile as compose and Docker understand them, as far as we use them.
//!
//! What is not known here fails, so that nothing stands in the files that no test looks at.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

pub(crate) type Variables = BTreeMap<String, String>;

/// docker-compose.yml, anchors and variables resolved.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ComposeFile {
    pub name: String,
    pub services: BTreeMap<String, Service>,
    pub volumes: BTreeMap<String, Option<Value>>,
    #[serde(rename = "x-logging")]
    _logging: Value,
    #[serde(rename = "x-ftap")]
    _common: Value,
    #[serde(rename = "x-settings")]
    _settings: Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    pub image: String,
    pub build: Option<String>,
    pub pull_policy: Option<String>,
    pub command: Option<Vec<String>>,
    pub user: Option<String>,
    pub restart: String,
    pub stop_grace_period: Option<String>,
    #[serde(default)]
    pub read_only: bool,
    #[serde(default)]
    pub tmpfs: Vec<String>,
    #[serde(default)]
    pub cap_drop: Vec<String>,
    #[serde(default)]
    pub security_opt: Vec<String>,
    pub logging: Logging,
    #[serde(default)]
    pub env_file: Vec<EnvFile>,
    #[serde(default)]
    pub environment: Variables,
    pub healthcheck: HealthCheck,
    #[serde(default)]
    pub depends_on: BTreeMap<String, Dependency>,
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub ports: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logging {
    pub driver: String,
    pub options: Variables,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvFile {
    pub path: String,
    pub required: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HealthCheck {
    pub disable: bool,
    pub test: Vec<String>,
    pub interval: String,
    pub timeout: String,
    pub retries: u32,
    pub start_period: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dependency {
    pub condition: Condition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Condition {
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

/// `source:target[:ro]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub source: String,
    pub target: String,
    pub is_read_only: bool,
}

impl ComposeFile {
    /// Reads the repository's, with these variables in the shell or in `.env`.
    pub(crate) fn read(variables: &Variables) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker-compose.yml");
        let text = std::fs::read_to_string(path).unwrap();
        let mut value: Value = serde_saphyr::from_str(&text).unwrap();
        resolve(&mut value, variables);
        serde_json::from_value(value).unwrap()
    }

    /// A service that must exist.
    pub(crate) fn service(&self, name: &str) -> &Service {
        let found = self.services.get(name);
        found.unwrap_or_else(|| panic!("there is no service {name}"))
    }
}

impl Service {
    /// Whether it runs our image.
    pub(crate) fn is_ours(&self) -> bool {
        self.image == "ftap"
    }

    pub(crate) fn mounts(&self) -> Vec<Mount> {
        let mount = |text: &String| {
            let parts: Vec<_> = text.split(':').collect();
            let is_read_only = match parts.as_slice() {
                [_, _] => false,
                [_, _, "ro"] => true,
                _ => panic!("volume {text}"),
            };
            Mount {
                source: parts[0].to_owned(),
                target: parts[1].to_owned(),
                is_read_only,
            }
        };
        self.volumes.iter().map(mount).collect()
    }

    /// What Docker does when the container has ended.
    pub(crate) fn is_restarted(&self, has_failed: bool) -> bool {
        match self.restart.as_str() {
            "no" => false,
            "on-failure" => has_failed,
            "unless-stopped" => true,
            other => panic!("restart {other}"),
        }
    }
}

fn resolve(value: &mut Value, variables: &Variables) {
    match value {
        Value::String(text) => *text = interpolate(text, variables),
        Value::Array(values) => values
            .iter_mut()
            .for_each(|value| resolve(value, variables)),
        Value::Object(values) => values
            .values_mut()
            .for_each(|value| resolve(value, variables)),
        _ => {}
    }
}

/// `${NAME}`, `${NAME:-default}` and `$$`.
fn interpolate(text: &str, variables: &Variables) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
            continue;
        }
        let inside = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let (inside, after) = inside.unwrap_or_else(|| panic!("not understood: {text}"));
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, default),
            None => (inside, ""),
        };
        let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(name.chars().all(is_name), "not understood: {text}");
        let value = variables.get(name).filter(|value| !value.is_empty());
        out.push_str(value.map_or(default, String::as_str));
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What the Dockerfile says about a container.
#[derive(Debug)]
pub(crate) struct Image {
    pub environment: Variables,
    pub working_dir: String,
    pub volumes: Vec<String>,
    pub user: String,
    /// Folders of that user; a new volume takes its owner from the folder that it is mounted on.
    pub owned: Vec<String>,
}

impl Image {
    /// Of the repository's Dockerfile, its last stage.
    pub(crate) fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Dockerfile");
        let text = std::fs::read_to_string(path).unwrap();
        let stage = &text[text.rfind("\nFROM ").unwrap()..];
        let words = |instruction: &str| -> Vec<String> {
            let lines = stage
                .lines()
                .filter_map(|line| line.strip_prefix(instruction));
            let words = lines.flat_map(str::split_whitespace);
            words.map(str::to_owned).collect()
        };
        assert_eq!(words("ENTRYPOINT "), [r#"["/usr/local/bin/ftap"]"#]);
        let pair = |text: String| {
            let (name, value) = text.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        };
        Self {
            environment: words("ENV ").into_iter().map(pair).collect(),
            working_dir: words("WORKDIR ").pop().unwrap(),
            volumes: words("VOLUME "),
            owned: stage
                .split_once("chown 10001:10001 ")
                .and_then(|(_, rest)| rest.lines().next())
                .map(|folders| folders.split_whitespace().map(str::to_owned).collect())
                .unwrap_or_default(),
            user: words("USER ").pop().unwrap(),
        }
    }
}

/// `15s`, `1m`.
pub(crate) fn duration(text: &str) -> std::time::Duration {
    let number = |text: &str| {
        text.parse::<u64>()
            .unwrap_or_else(|_| panic!("time {text}"))
    };
    std::time::Duration::from_secs(match text.strip_suffix('m') {
        Some(minutes) => 60 * number(minutes),
        None => number(text.trim_end_matches('s')),
    })
}
