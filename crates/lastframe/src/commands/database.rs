//! `lastframe check`, `backup` and `restore`: of the data folder on this machine, not of a server.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use indicatif::ProgressBar;
use lastframe_store::{Belonging, Keys, Report};

use super::{print, say};
use crate::client::Failed;
use crate::config;
use crate::data::DataFolder;
use crate::exit::Exit;
use crate::outputs::Places;
use crate::sites;

/// Which data folder.
#[derive(Args, Debug)]
pub(super) struct Data {
    /// The data folder
    #[arg(long = "data", env = "LASTFRAME_DATA", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The configuration file, which may name the key file, and says where outputs are [default: lastframe.toml in the data
    /// folder, if there is one]
    #[arg(long, env = "LASTFRAME_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Data {
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        self.folder.clone().map_or_else(config::default_data, Ok)
    }

    /// The keys that are at hand.
    fn keys(&self) -> Result<Keys, Failed> {
        let settings = config::encryption(self.config.as_deref(), &self.folder()?)?;
        settings.keys().map_err(Failed::about_keys)
    }
}

/// Reads every row, bundle and output, and compares it with its checksum; also while a server runs.
#[derive(Args, Debug)]
pub(super) struct Check {
    #[command(flatten)]
    data: Data,
    /// Leave out the files of outputs and sites, which takes as long as reading them
    #[arg(long)]
    database_only: bool,
}

impl Check {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let (folder, keys) = (self.data.folder()?, self.data.keys()?);
        let storage = config::storage(self.data.config.as_deref(), &folder)?;
        let outputs = Places::open(folder.join("outputs"), &storage)?;
        let outputs = (!self.database_only).then_some(outputs);
        let report = at_work(move |step| check(&folder, &keys, outputs.as_ref(), step)).await?;
        tell(self.data.json, None, &report, "checked")
    }
}

/// Copies the database into one file, as it is at one moment; also while a server runs.
///
/// Its secrets stay sealed: keep a copy of the key file too, elsewhere. Outputs and sites are plain files of the data folder
/// that are written once: copy them with whatever copies files.
#[derive(Args, Debug)]
pub(super) struct Backup {
    /// The file to write; it must not be there yet
    file: PathBuf,
    #[command(flatten)]
    data: Data,
}

impl Backup {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let (folder, file, keys) = (self.data.folder()?, self.file.clone(), self.data.keys()?);
        let report = at_work(move |step| Ok(lastframe_store::backup(&folder, &file, &keys, step)?)).await?;
        tell(self.data.json, Some(&self.file), &report, "copied and checked")
    }
}

/// Puts a backup in the place of the database. The server must be stopped.
///
/// The database that was there is kept in a folder `replaced-N` of the data folder. Renders that were accepted or finished
/// after the backup was taken are not in it: what it says is queued is rendered, again if need be.
#[derive(Args, Debug)]
pub(super) struct Restore {
    /// What `lastframe backup` has written
    file: PathBuf,
    #[command(flatten)]
    data: Data,
    /// Take it although a part of it is damaged: renders with damaged records will fail, the others go on
    #[arg(long)]
    even_if_damaged: bool,
}

impl Restore {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        let (folder, keys) = (self.data.folder()?, self.data.keys()?);
        let (file, even_if_damaged) = (self.file.clone(), self.even_if_damaged);
        let replaced = at_work(move |step| {
            // Held until it is done: no server may start meanwhile.
            let folder = DataFolder::open(&folder)?;
            Ok(lastframe_store::restore(folder.path(), &file, &keys, even_if_damaged, step)?)
        })
        .await
        .map_err(Failed::about_keys)?;
        let json = serde_json::json!({"restored": self.file, "replaced": replaced});
        print(self.data.json, &json, || {
            let kept = replaced.map(|replaced| format!("\nwhat was there is kept in {}", replaced.display()));
            format!("{} is restored{}", self.file.display(), kept.unwrap_or_default())
        })?;
        Ok(Exit::Done)
    }
}

/// Does something long on a thread of its own, and shows what it is busy with.
async fn at_work<T: Send + 'static>(
    work: impl FnOnce(&mut dyn FnMut(&str)) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let spinner = ProgressBar::new_spinner();
    spinner.enable_steady_tick(std::time::Duration::from_millis(100));
    let shown = spinner.clone();
    let done =
        tokio::task::spawn_blocking(move || work(&mut |step| shown.set_message(step.to_owned()))).await;
    spinner.finish_and_clear();
    done.context("the work panicked")?
}

fn tell(json: bool, written: Option<&Path>, report: &Report, done: &str) -> Result<Exit, Failed> {
    let count = report.problems.len();
    if json {
        let told = serde_json::json!({"written": written, "rows": report.rows, "problems": report.problems});
        print(true, &told, String::new)?;
    } else {
        if let Some(file) = written {
            say(format!("{} is written", file.display()));
        }
        for problem in report.problems.iter().chain(&report.notes) {
            say(problem);
        }
        say(match count {
            0 => format!("{} rows {done}: all is as it was written", report.rows),
            _ => format!("{} rows {done}: {count} problem{}", report.rows, if count == 1 { "" } else { "s" }),
        });
    }
    Ok(if count == 0 { Exit::Done } else { Exit::Damaged })
}

fn check(
    folder: &Path,
    keys: &Keys,
    files: Option<&Places>,
    step: &mut dyn FnMut(&str),
) -> anyhow::Result<Report> {
    let mut report = lastframe_store::check(folder, keys, step)?;
    if let Some(outputs) = files {
        let runtime = tokio::runtime::Handle::current();
        lastframe_store::belongings(folder, &mut |belonging| {
            report.rows += 1;
            let problem = match belonging {
                Belonging::Output(render, output) => {
                    step(&format!("output of {render}"));
                    let wrong = runtime.block_on(outputs.examine(&output));
                    let wrong = wrong.unwrap_or_else(|error| Some(format!("cannot be read: {error}")));
                    wrong.map(|why| format!("the output of render {render} {why}"))
                }
                Belonging::Site(tenant, name, version) => {
                    step(&format!("site {name}"));
                    wrong_site(folder, &version)
                        .map(|why| format!("site {name} of {}, version {version}, {why}", tenant.as_str()))
                }
            };
            report.problems.extend(problem);
        })?;
    }
    Ok(report)
}

/// What is wrong with the bundle of a version of a site.
fn wrong_site(folder: &Path, version: &str) -> Option<String> {
    match sites::content_hash(&folder.join("sites").join(version)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some("is gone: add it again".into()),
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(found) => (found != version).then(|| "is damaged: add it again".into()),
    }
}
