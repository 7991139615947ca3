//! The services of docker-compose.yml as plain processes: their commands, with exactly their
//! environment, health checks, order and restarts.
//!
//! A container's folder stands in the place of its root: paths are those in it, volumes are mounted
//! there (as root, in a mount namespace of its own, so that what is read-only is; else by links).
//! Ports of containers are free ports of 127.0.0.1, and names of services are rewritten to them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::compose::{ComposeFile, Condition, Image, Service, Variables, duration};
use super::process::Ftap;
use super::{container_postgres, namespace, real_kafka};

/// Between two looks at what is starting.
const STEP: Duration = Duration::from_millis(100);

/// A compose project.
pub(crate) struct Project {
    pub file: ComposeFile,
    image: Image,
    dot_env: Variables,
    dir: tempfile::TempDir,
    has_namespaces: bool,
    /// By container and port in it.
    ports: RefCell<BTreeMap<(String, u16), u16>>,
}

/// A running container.
pub(crate) struct Container {
    pub name: String,
    pub service: String,
    pub process: Ftap,
    started: Instant,
}

/// What came when, as `docker compose events` would tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Started(String),
    Healthy(String),
    Done(String),
}

impl Project {
    pub(crate) fn new(dot_env: &[(&str, &str)]) -> Self {
        let pair = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
        let dot_env: Variables = dot_env.iter().map(pair).collect();
        let dir = tempfile::Builder::new()
            .prefix("ftap-compose-")
            .tempdir()
            .unwrap();
        super::postgres::open_to_all(dir.path());
        Self {
            file: ComposeFile::read(&dot_env),
            image: Image::read(),
            dot_env,
            has_namespaces: namespace::is_possible(),
            dir,
            ports: RefCell::default(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Whether read-only volumes are.
    pub(crate) fn mounts_for_real(&self) -> bool {
        self.has_namespaces
    }

    /// The port of this machine that a container's port is.
    pub(crate) fn port(&self, container: &str, port: u16) -> u16 {
        let mut ports = self.ports.borrow_mut();
        let key = (container.to_owned(), port);
        *ports.entry(key).or_insert_with(free_port)
    }

    /// The command of a service, as its container would run it.
    pub(crate) fn command(&self, container: &str, service: &str, arguments: &[String]) -> Command {
        let described = self.file.service(service);
        assert!(described.is_ours(), "{service} has another image");
        let root = self.root(container);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ftap"));
        command
            .args(arguments)
            .env_clear()
            .envs(self.environment(container, service))
            .current_dir(in_root(&root, &self.image.working_dir))
            .stdin(Stdio::null());
        self.contain(&mut command, &root, described);
        command
    }

    /// `docker compose run --rm SERVICE ARGUMENTS`.
    pub(crate) fn run(&self, service: &str, arguments: &[&str]) -> Command {
        let arguments: Vec<_> = arguments.iter().map(|text| text.to_string()).collect();
        self.command(&format!("{service}-run"), service, &arguments)
    }

    /// What a container's processes see: the image's, over it `.env`, over it the service's.
    pub(crate) fn environment(&self, container: &str, service: &str) -> Variables {
        let described = self.file.service(service);
        let mut all = Variables::new();
        if described.is_ours() {
            all.extend(self.image.environment.clone());
        }
        for file in &described.env_file {
            assert_eq!((file.path.as_str(), file.required), (".env", false));
            all.extend(self.dot_env.clone());
        }
        all.extend(described.environment.clone());
        // A host and its port stand in two variables.
        if let Some(host) = all.get("POSTGRES_HOST").cloned()
            && self.file.services.contains_key(&host)
        {
            let port = all["POSTGRES_PORT"].parse().unwrap();
            if self.listens(&host).contains(&port) {
                let mapped = self.port(&host, port).to_string();
                all.insert("POSTGRES_PORT".to_owned(), mapped);
                all.insert("POSTGRES_HOST".to_owned(), "127.0.0.1".to_owned());
            }
        }
        let root = self.root(container);
        all.into_iter()
            .map(|(name, value)| (name, self.rewrite(container, service, &root, &value)))
            .collect()
    }

    /// Paths and addresses in a container's setting or argument, as they are on this machine.
    pub(crate) fn rewrite(
        &self,
        container: &str,
        service: &str,
        root: &Path,
        text: &str,
    ) -> String {
        if text.starts_with('/') {
            return in_root(root, text).display().to_string();
        }
        let mut text = text.to_owned();
        for other in self.file.services.keys() {
            for port in self.listens(other) {
                let mapped = format!("127.0.0.1:{}", self.port(other, port));
                text = text.replace(&format!("{other}:{port}"), &mapped);
            }
        }
        for port in self.listens(service) {
            let mapped = self.port(container, port);
            for (from, to) in [
                ("localhost", "127.0.0.1"),
                ("127.0.0.1", "127.0.0.1"),
                ("0.0.0.0", "0.0.0.0"),
                ("://", "://127.0.0.1"),
            ] {
                text = text.replace(&format!("{from}:{port}"), &format!("{to}:{mapped}"));
            }
        }
        text
    }

    /// Ports on which a service listens, by its own settings.
    fn listens(&self, service: &str) -> Vec<u16> {
        let environment = &self.file.service(service).environment;
        let ports = |text: &String| -> Vec<u16> {
            text.split(',')
                .filter_map(|listener| listener.rsplit_once(':')?.1.parse().ok())
                .collect()
        };
        let ours = environment.get("DASHBOARD_ADDR");
        match environment.get("KAFKA_LISTENERS").or(ours) {
            Some(listeners) => ports(listeners),
            None => vec![5432],
        }
    }

    /// A container's own folder: mount points and nothing else.
    fn root(&self, container: &str) -> PathBuf {
        self.path("containers").join(container)
    }

    /// Where a volume's files are; a bind mount's are in the repository, or where the test put them.
    pub(crate) fn volume(&self, source: &str) -> PathBuf {
        match source.strip_prefix("./") {
            Some("credentials") => self.path("credentials"),
            Some(path) => Path::new(env!("CARGO_MANIFEST_DIR")).join(path),
            None => {
                let is_known = self.file.volumes.contains_key(source);
                assert!(is_known, "volume {source} is not declared");
                self.path("volumes").join(source)
            }
        }
    }

    fn contain(&self, command: &mut Command, root: &Path, service: &Service) {
        let mut mounts: Vec<(PathBuf, PathBuf, bool)> = Vec::new();
        for mount in service.mounts() {
            let source = self.volume(&mount.source);
            mounts.push((source, in_root(root, &mount.target), mount.is_read_only));
        }
        for target in &self.image.volumes {
            let target = in_root(root, target);
            if !mounts.iter().any(|(_, known, _)| *known == target) {
                let anonymous = self.path("anonymous").join(root.file_name().unwrap());
                mounts.push((anonymous, target, false));
            }
        }
        let is_new = !root.exists();
        for (source, target, _) in &mounts {
            std::fs::create_dir_all(source).unwrap();
            if is_new && self.has_namespaces {
                std::fs::create_dir_all(target).unwrap();
            } else if is_new {
                std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                std::os::unix::fs::symlink(source, target).unwrap();
            }
        }
        if self.has_namespaces {
            namespace::mount(command, root, &mounts, service.read_only);
        } else if service.read_only {
            std::fs::set_permissions(root, PermissionsExt::from_mode(0o555)).unwrap();
        }
    }

    pub(crate) fn start(&self, container: &str, service: &str) -> Container {
        let described = self.file.service(service);
        let mut command = match service {
            "postgres" => container_postgres::command(self, container),
            "kafka" => self.kafka(container),
            _ => {
                let arguments = described.command.as_deref().unwrap_or_default();
                self.command(container, service, arguments)
            }
        };
        command.stdin(Stdio::null());
        Container {
            name: container.to_owned(),
            service: service.to_owned(),
            process: Ftap::start_in(command, self.dir.path()),
            started: Instant::now(),
        }
    }

    /// The image's own set-up and broker; in the first pass of the tests the embedded broker.
    fn kafka(&self, container: &str) -> Command {
        let environment = self.environment(container, "kafka");
        let data = self.volume("kafka-data");
        std::fs::create_dir_all(&data).unwrap();
        if real_kafka().is_none() {
            let listeners = self.listens("kafka");
            let mut command = Command::new(env!("CARGO_BIN_EXE_ftap"));
            let port = self.port(container, listeners[0]).to_string();
            command
                .args(["kafka", "--port", &port])
                .env_clear()
                .env("DATA_DIR", data)
                .env("DASHBOARD_ADDR", "off")
                .env("LOG_FORMAT", "json");
            return command;
        }
        let mount = self.file.service("kafka").mounts().remove(0);
        let mounted = in_root(&self.root(container), &mount.target);
        assert_eq!(Path::new(&environment["KAFKA_LOG_DIRS"]), mounted);
        let folders = ["default", "mounted", "final"].map(|name| {
            let folder = self.path("kafka-config").join(name);
            std::fs::create_dir_all(&folder).unwrap();
            folder
        });
        let java = |arguments: &[&str]| {
            let mut command = Command::new(repository("scripts/kafka"));
            command
                .arg("java")
                .args(arguments)
                .envs(environment.clone())
                .env("KAFKA_LOG_DIRS", &data);
            command
        };
        let [default, mounted, last] = folders.each_ref().map(|path| path.to_str().unwrap());
        if !data.join("meta.properties").exists() {
            let setup = java(&[
                "kafka.docker.KafkaDockerWrapper",
                "setup",
                "--default-configs-dir",
                default,
                "--mounted-configs-dir",
                mounted,
                "--final-configs-dir",
                last,
            ])
            .output()
            .unwrap();
            assert!(setup.status.success(), "{setup:?}");
        }
        java(&["kafka.Kafka", &format!("{last}/server.properties")])
    }

    /// Runs a container's health check once.
    pub(crate) fn is_healthy(&self, container: &Container) -> bool {
        let described = self.file.service(&container.service);
        let check = &described.healthcheck;
        let (kind, words) = check.test.split_first().expect("no health check");
        let mut command = match (kind.as_str(), words[0].as_str()) {
            ("CMD", "/usr/local/bin/ftap") => {
                self.command(&container.name, &container.service, &words[1..])
            }
            ("CMD", "/opt/kafka/bin/kafka-broker-api-versions.sh") => {
                let root = self.root(&container.name);
                let words = words[1..].iter();
                let words: Vec<_> = words
                    .map(|word| self.rewrite(&container.name, &container.service, &root, word))
                    .collect();
                if real_kafka().is_none() {
                    // The embedded broker stands in for it; the second pass runs the tool.
                    return std::net::TcpStream::connect(words.last().unwrap()).is_ok();
                }
                let mut command = Command::new(repository("scripts/kafka"));
                command.args(["tool", "org.apache.kafka.tools.BrokerApiVersionsCommand"]);
                command.args(words);
                command
            }
            ("CMD-SHELL", script) => {
                let mut command = Command::new("/bin/sh");
                command.args(["-c", script]).env_clear();
                command.envs(container_postgres::environment(self, &container.name));
                command
            }
            other => panic!("health check {other:?}"),
        };
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + duration(&check.timeout);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status.success();
            }
            if Instant::now() > end {
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails if it takes longer than Docker would wait before it calls the container unhealthy.
    pub(crate) fn check_patience(&self, container: &Container) {
        let check = &self.file.service(&container.service).healthcheck;
        let patience = duration(&check.start_period) + duration(&check.interval) * check.retries;
        assert!(
            container.started.elapsed() < patience,
            "{} is unhealthy: {}",
            container.name,
            container.process.tail()
        );
    }

    /// `docker compose up --detach --wait`, one more container of the services named in `scaled`.
    pub(crate) fn up(&self, scaled: &[&str]) -> (Vec<Container>, Vec<Event>) {
        let mut waiting: Vec<(String, String)> = Vec::new();
        for service in self.file.services.keys() {
            waiting.push((service.clone(), service.clone()));
            if scaled.contains(&service.as_str()) {
                waiting.push((format!("{service}-2"), service.clone()));
            }
        }
        let (mut running, mut events) = (Vec::<Container>::new(), Vec::new());
        let mut settled: Vec<String> = Vec::new();
        while !waiting.is_empty() || settled.len() < running.len() {
            let mut still_waiting = Vec::new();
            for (container, service) in waiting {
                if self.may_start(&service, &events) {
                    running.push(self.start(&container, &service));
                    events.push(Event::Started(container));
                } else {
                    still_waiting.push((container, service));
                }
            }
            waiting = still_waiting;
            for container in &running {
                if settled.contains(&container.name) {
                    continue;
                }
                let has_check = !self.file.service(&container.service).healthcheck.disable;
                if let Some(status) = container.process.ended() {
                    self.check_end(container, status);
                    events.push(Event::Done(container.name.clone()));
                    settled.push(container.name.clone());
                } else if has_check && self.is_healthy(container) {
                    events.push(Event::Healthy(container.name.clone()));
                    settled.push(container.name.clone());
                } else if has_check {
                    self.check_patience(container);
                }
            }
            std::thread::sleep(STEP);
        }
        (running, events)
    }

    fn may_start(&self, service: &str, events: &[Event]) -> bool {
        let dependencies = self.file.service(service).depends_on.iter();
        dependencies.into_iter().all(|(on, dependency)| {
            events.contains(&match dependency.condition {
                Condition::ServiceHealthy => Event::Healthy(on.clone()),
                Condition::ServiceCompletedSuccessfully => Event::Done(on.clone()),
            })
        })
    }

    /// A service may end by itself only well, and only if it stays so.
    fn check_end(&self, container: &Container, status: ExitStatus) {
        let service = self.file.service(&container.service);
        assert!(
            status.success() && !service.is_restarted(false),
            "{} ended with {status}: {}",
            container.name,
            container.process.tail()
        );
    }

    /// `docker compose stop`: every container has to end well and within its time.
    pub(crate) fn stop(&self, running: &[Container]) {
        let is_database =
            |container: &&Container| ["kafka", "postgres"].contains(&container.service.as_str());
        let (servers, clients): (Vec<_>, Vec<_>) = running.iter().partition(is_database);
        for group in [clients, servers] {
            for container in &group {
                if container.process.ended().is_none() {
                    // The image of PostgreSQL says so by its STOPSIGNAL.
                    let signal = match container.service.as_str() {
                        "postgres" => libc::SIGINT,
                        _ => libc::SIGTERM,
                    };
                    container.process.signal(signal);
                }
            }
            for container in group {
                let service = self.file.service(&container.service);
                let grace = duration(service.stop_grace_period.as_deref().unwrap_or("10s"));
                let status = container.process.wait_at_most(grace);
                // Java ends with 128 and the signal's number.
                let is_well = status.success()
                    || (container.service == "kafka" && status.code() == Some(143));
                let name = &container.name;
                assert!(is_well, "{name}: {status}: {}", container.process.tail());
            }
        }
    }
}

impl Drop for Project {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.dir.disable_cleanup(true);
            eprintln!("what is left: {}", self.dir.path().display());
        }
    }
}

pub(crate) fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// An absolute path of a container, on this machine.
pub(crate) fn in_root(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// None that has a container's port as its first digits: texts are replaced.
fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        if !port.to_string().starts_with("5432") {
            return port;
        }
    }
}
