//! What the entry point of PostgreSQL's image does at a first start, and the server after it.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::compose::Variables;
use super::containers::{Project, in_root};

/// Where the newest PostgreSQL of this machine has its programs.
pub(crate) fn programs() -> Option<PathBuf> {
    let is_there = |folder: &PathBuf| folder.join("initdb").is_file();
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten();
    let mut folders: Vec<PathBuf> = installed
        .map(|entry| entry.unwrap().path().join("bin"))
        .filter(is_there)
        .collect();
    folders.sort();
    folders.pop().or_else(|| {
        let output = Command::new("pg_config").arg("--bindir").output().ok()?;
        let folder = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
        is_there(&folder).then_some(folder)
    })
}

/// The image's, the service's, and the port that stands for 5432.
pub(crate) fn environment(project: &Project, container: &str) -> Variables {
    let mut all = project.environment(container, "postgres");
    let port = project.port(container, 5432).to_string();
    let programs = programs().unwrap();
    all.extend([
        ("PGPORT".to_owned(), port),
        (
            "PATH".to_owned(),
            format!("{}:/usr/bin:/bin", programs.display()),
        ),
        ("PGDATA".to_owned(), data(project).display().to_string()),
        ("LC_ALL".to_owned(), "C".to_owned()),
    ]);
    all
}

/// The volume that is mounted where the image has its data.
fn data(project: &Project) -> PathBuf {
    let mounts = project.file.service("postgres").mounts();
    let data = mounts
        .iter()
        .find(|mount| mount.target == "/var/lib/postgresql/data");
    project.volume(&data.expect("no volume for the data").source)
}

/// The server's command; makes the cluster unless it is there.
pub(crate) fn command(project: &Project, container: &str) -> Command {
    let service = project.file.service("postgres");
    assert_eq!(service.user.as_deref(), Some("postgres"));
    let environment = environment(project, container);
    let (data, socket) = (data(project), project.path("postgres-run"));
    std::fs::create_dir_all(&socket).unwrap();
    let account = account();
    let as_server = |program: &str| {
        let mut command = Command::new(programs().unwrap().join(program));
        command
            .env_clear()
            .envs(environment.clone())
            .current_dir(&socket);
        if let Some((uid, gid)) = account {
            command.uid(uid).gid(gid);
        }
        command
    };
    if !data.join("PG_VERSION").exists() {
        std::fs::create_dir_all(&data).unwrap();
        for folder in [&data, &socket] {
            if let Some((uid, gid)) = account {
                std::os::unix::fs::chown(folder, Some(uid), Some(gid)).unwrap();
            }
        }
        first_start(project, &environment, &socket, as_server);
    }
    let words = service.command.as_deref().unwrap();
    assert_eq!(words[0], "postgres");
    let mut command = as_server("postgres");
    let own = own_settings(&socket);
    command.args(&words[1..]).args(own);
    command.args(["-c", "listen_addresses=127.0.0.1"]);
    command
}

fn own_settings(socket: &Path) -> [String; 2] {
    let folder = format!("unix_socket_directories={}", socket.display());
    ["-c".to_owned(), folder]
}

fn first_start(
    project: &Project,
    environment: &Variables,
    socket: &Path,
    as_server: impl Fn(&str) -> Command,
) {
    let (user, database) = (&environment["POSTGRES_USER"], &environment["POSTGRES_DB"]);
    let password = &environment["POSTGRES_PASSWORD"];
    let password_file = socket.join("password");
    std::fs::write(&password_file, password).unwrap();
    let mut initdb = as_server("initdb");
    initdb.arg(format!("--username={user}"));
    initdb.arg(format!("--pwfile={}", password_file.display()));
    initdb.args(environment["POSTGRES_INITDB_ARGS"].split_whitespace());
    succeed(initdb.output().unwrap());

    let mut start = as_server("pg_ctl");
    let options = format!("{} -c listen_addresses=''", own_settings(socket).join(" "));
    let log = socket.join("first-start.log");
    start
        .args(["--wait", "start", "-o", &options, "-l"])
        .arg(&log);
    succeed(start.output().unwrap());
    let psql = |database: &str| {
        let mut psql = as_server("psql");
        psql.env("PGPASSWORD", password).env("PGHOST", socket);
        psql.args(["-v", "ON_ERROR_STOP=1", "--no-password", "--no-psqlrc"]);
        psql.args(["--username", user, "--dbname", database]);
        psql
    };
    if database != "postgres" {
        let mut create = psql("postgres");
        create.args(["--command", &format!("CREATE DATABASE {database}")]);
        succeed(create.output().unwrap());
    }
    for script in scripts(project) {
        succeed(psql(database).arg("--file").arg(&script).output().unwrap());
    }
    succeed(
        as_server("pg_ctl")
            .args(["--wait", "stop"])
            .output()
            .unwrap(),
    );
    let rules = in_root(Path::new(&environment["PGDATA"]), "pg_hba.conf");
    let mut text = std::fs::read_to_string(&rules).unwrap();
    text.push_str("host all all all scram-sha-256\n");
    std::fs::write(&rules, text).unwrap();
}

/// SQL files of the folder that is mounted for the first start, in their order.
fn scripts(project: &Project) -> Vec<PathBuf> {
    let mounts = project.file.service("postgres").mounts();
    let folder = mounts
        .iter()
        .find(|mount| mount.target == "/docker-entrypoint-initdb.d");
    let folder = project.volume(&folder.expect("no scripts for the first start").source);
    let entries = std::fs::read_dir(folder).unwrap();
    let mut scripts: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "sql"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty(), "there are no scripts");
    scripts
}

fn succeed(output: Output) {
    assert!(output.status.success(), "{output:?}");
}

/// The server refuses to run as root.
fn account() -> Option<(u32, u32)> {
    // SAFETY: geteuid has no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return None;
    }
    let id = |what: &str, name: &str| -> Option<u32> {
        let output = Command::new("id").args([what, name]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    let ids = |name| Some((id("-u", name)?, id("-g", name)?));
    let found = ids("postgres").or_else(|| ids("nobody"));
    Some(found.expect("no account to run the server"))
}
