//! Where and when something was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Machine, date, commit and command; what is not known is left out.
pub(crate) fn about(rows: u64) -> Vec<(&'static str, String)> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = field(&read("/proc/cpuinfo"), "model name").map(str::to_owned);
    let memory = field(&read("/proc/meminfo"), "MemTotal").and_then(gigabytes);
    let kernel = read("/proc/sys/kernel/osrelease");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("cargo run --release -p bench -- {}", arguments.join(" "));
    let about = [
        (
            "date",
            Some(chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string()),
        ),
        ("commit", commit()),
        (
            "command",
            Some(format!("`{}`", command.trim_end_matches(" -- "))),
        ),
        (
            "processor",
            model.map(|model| format!("{model}, {cores} cores")),
        ),
        ("memory", memory),
        ("kernel", Some(format!("Linux {}", kernel.trim()))),
        ("rows", Some(rows.to_string())),
    ];
    let known = about.into_iter();
    known
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

/// Processes that ran or waited for a core, in the last 1, 5 and 15 minutes.
pub(crate) fn load_so_far() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split(' ').take(3).collect();
    format!("{} at the end, over 1, 5 and 15 minutes", load.join(", "))
}

/// The value of the first line `NAME : VALUE`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(found, _)| found.trim() == name);
    Some(named.next()?.1.trim())
}

fn gigabytes(kilobytes: &str) -> Option<String> {
    let number: f64 = kilobytes.strip_suffix(" kB")?.parse().ok()?;
    Some(format!("{:.0} GB", number * 1024.0 / 1e9))
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new("git")
            .args(arguments)
            .current_dir(folder)
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changes = git(&["status", "--porcelain"])?;
    Some(if changes.is_empty() {
        commit
    } else {
        format!("{commit} with changes")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_found_by_their_name() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "model"), None);
        assert_eq!(gigabytes("24689156 kB").as_deref(), Some("25 GB"));
    }
}
