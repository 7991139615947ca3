//! `ftap models`: the models of `dbt/` over the lake, without dbt.

use std::path::Path;

use ftap_query::{Format, Model, models, nearest};
use ftap_telemetry::figures::count;

use super::query::{judge, open, until_stopped, write_new};
use crate::cli::{ModelsAction, ModelsArgs};
use crate::config::Config;
use crate::exit::{self, BadUsage};
use crate::output::print;

/// Lists, shows, writes or tests them.
pub(crate) fn execute(config: &Config, args: &ModelsArgs) -> anyhow::Result<u8> {
    match &args.action {
        ModelsAction::List => list(),
        ModelsAction::Show { name } => show(name),
        ModelsAction::Run { out, names } => until_stopped(run(config, args, out, names)),
        ModelsAction::Test => until_stopped(test(config, args)),
    }
}

fn list() -> anyhow::Result<u8> {
    let models = models()?;
    let width = models.iter().map(|model| model.name.len()).max();
    let width = width.unwrap_or_default();
    let lines = models.iter().map(|model| {
        format!(
            "{:width$}  {:10}  {}\n",
            model.name, model.layer, model.description
        )
    });
    print(&lines.collect::<String>())?;
    Ok(exit::DONE)
}

fn show(name: &str) -> anyhow::Result<u8> {
    let models = models()?;
    let model = find(&models, name)?;
    let mut text = format!("-- {}\n", model.description);
    for column in &model.columns {
        text += &format!("-- {}: {}\n", column.name, column.description);
    }
    print(&format!("{text}{}\n", model.sql))?;
    Ok(exit::DONE)
}

fn find<'a>(models: &'a [Model], name: &str) -> Result<&'a Model, BadUsage> {
    let found = models.iter().find(|model| model.name == name);
    found.ok_or_else(|| {
        let names = models.iter().map(|model| model.name.as_str());
        let advice = match nearest(name, names) {
            Some(near) => format!("did you mean '{near}'?"),
            None => "`ftap models list` shows them".to_owned(),
        };
        BadUsage(format!("there is no model {name}: {advice}"))
    })
}

/// Each model becomes a new file of its name.
async fn run(
    config: &Config,
    args: &ModelsArgs,
    out: &Path,
    names: &[String],
) -> anyhow::Result<u8> {
    let engine = open(config, &args.limits).await?;
    for name in names {
        find(engine.models(), name)?;
    }
    std::fs::create_dir_all(out)
        .map_err(|error| BadUsage(format!("--out {}: {error}", out.display())))?;
    let wanted = |model: &&Model| names.is_empty() || names.contains(&model.name);
    for model in engine.models().iter().filter(wanted) {
        let path = out.join(format!("{}.parquet", model.name));
        let answer = engine.query(&format!("select * from {}", model.name)).await;
        let answer = answer.map_err(judge)?;
        let written = write_new(&path, answer, Format::Parquet, None).await?;
        print(&format!(
            "{}: {} rows\n",
            path.display(),
            count(written.rows as u64)
        ))?;
    }
    Ok(exit::DONE)
}

/// Every test of the project; exit code 1 if one fails.
async fn test(config: &Config, args: &ModelsArgs) -> anyhow::Result<u8> {
    let engine = open(config, &args.limits).await?;
    let (mut passed, mut warned, mut failed) = (0_u64, 0_u64, 0_u64);
    for model in engine.models() {
        for test in &model.tests {
            let sql = format!("select count(*) as n from ({}) as contradictions", test.sql);
            let rows = engine.count(&sql).await.map_err(judge)?;
            let what = match (rows, test.warns) {
                (0, _) => {
                    passed += 1;
                    continue;
                }
                (_, true) => {
                    warned += 1;
                    "warning"
                }
                (_, false) => {
                    failed += 1;
                    "FAILED"
                }
            };
            print(&format!(
                "{what}: {} {}: {} rows\n  {}\n",
                model.name,
                test.name,
                count(rows),
                test.sql
            ))?;
        }
    }
    print(&format!(
        "{} tests passed, {} warned, {} failed\n",
        count(passed),
        count(warned),
        count(failed)
    ))?;
    Ok(if failed == 0 {
        exit::DONE
    } else {
        exit::GAVE_UP
    })
}
