//! `lastframe site`: Remotion projects, bundled and uploaded.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use lastframe_core::site::SiteVersion;
use reqwest::Method;

use super::{Server, note, print, say};
use crate::client::{Client, Failed};
use crate::exit::Exit;
use crate::sites::collect_files;

#[derive(Debug, Subcommand)]
pub(super) enum Site {
    /// Bundle a Remotion project with its own `remotion bundle`, and upload it
    Add(Add),
    /// List sites with their compositions
    List(List),
    /// Remove a site that no unfinished render needs
    Remove(Remove),
}

#[derive(Args, Debug)]
pub(super) struct Add {
    /// The folder of the Remotion project, its packages installed
    project: PathBuf,
    /// The name that renders use as `serveUrl`
    #[arg(long)]
    name: String,
    /// The entry point, relative to the project [default: what the project is configured for]
    #[arg(long, value_name = "FILE")]
    entry: Option<PathBuf>,
    /// Print the site as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct Remove {
    /// The site's name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

impl Site {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => {
                let client = remove.server.client()?;
                client.send(client.request(Method::DELETE, &format!("/v1/sites/{}", remove.name))).await?;
                let removed = serde_json::json!({"removed": remove.name});
                print(remove.json, &removed, || format!("removed {}", remove.name))?;
                Ok(Exit::Done)
            }
        }
    }
}

impl Add {
    /// A project whose entry point is what it is configured for.
    pub(super) fn of(project: &Path, name: &str, server: &Server) -> Self {
        Self { project: project.into(), name: name.into(), entry: None, json: false, server: server.clone() }
    }

    async fn run(self) -> Result<Exit, Failed> {
        let site = self.upload(&self.server.client()?).await?;
        if self.json {
            print(true, &site, String::new)?;
            return Ok(Exit::Done);
        }
        describe(&site);
        say(format!("Render one:\n  lastframe render {} {} -o out/video.mp4", site.name, first(&site)));
        Ok(Exit::Done)
    }

    /// Bundles the project and uploads it.
    pub(super) async fn upload(&self, client: &Client) -> Result<SiteVersion, Failed> {
        let project = self.project.canonicalize().map_err(|error| {
            Failed::new(Exit::Usage, format!("no project at {}: {error}", self.project.display()))
        })?;
        let renderer = installed(&project, "@remotion/renderer")?;
        let bundle = tempfile::tempdir()?;
        // Remotion refuses an out-dir that exists and is not a bundle of its own.
        let out = bundle.path().join("bundle");
        self.bundle(&project, &out).await?;
        let archive = pack(&out).context("cannot pack the bundle")?;
        note(format!("uploading {:.1} MB", archive.len() as f64 / 1e6));
        let request = client
            .request(Method::POST, &format!("/v1/sites/{}/versions", self.name))
            .query(&[("renderer", renderer.to_string_lossy())])
            .header("content-type", "application/gzip")
            .body(archive);
        client.json(request).await
    }

    /// Bundles with the project's own command, so that its `remotion.config.ts` counts.
    async fn bundle(&self, project: &Path, out: &Path) -> Result<(), Failed> {
        let cli = installed(project, "@remotion/cli")?;
        let mut command = tokio::process::Command::new("node");
        command.arg(cli.join("remotion-cli.js")).arg("bundle");
        if let Some(entry) = &self.entry {
            command.arg(entry);
        }
        command.arg("--out-dir").arg(out).current_dir(project).stdin(Stdio::null());
        // What this command prints itself may be for a program.
        command.stdout(std::io::stderr());
        let status = command.status().await.context("cannot run node: install Node 20 or later")?;
        if !status.success() || !out.join("index.html").is_file() {
            return Err(Failed::new(
                Exit::Usage,
                format!("`remotion bundle` failed in {}; its reason is above", project.display()),
            ));
        }
        Ok(())
    }
}

impl List {
    async fn run(self) -> Result<Exit, Failed> {
        let sites: Vec<SiteVersion> = self.server.client()?.get("/v1/sites").await?;
        if self.json {
            say(serde_json::to_string_pretty(&sites)?);
        } else if sites.is_empty() {
            say("no sites yet: add one with `lastframe site add PROJECT --name NAME`");
        } else {
            sites.iter().for_each(describe);
        }
        Ok(Exit::Done)
    }
}

fn describe(site: &SiteVersion) {
    say(format!(
        "{} (version {}, Remotion {})",
        site.name,
        site.version.get(..12).unwrap_or_default(),
        site.remotion_version
    ));
    for composition in &site.compositions {
        if let Some(error) = &composition.error {
            say(format!("  {:<24} fails with its default props: {error}", composition.id));
            continue;
        }
        let seconds = f64::from(composition.duration_in_frames) / composition.fps;
        say(format!(
            "  {:<24} {}x{}, {} fps, {seconds:.1} s",
            composition.id, composition.width, composition.height, composition.fps
        ));
    }
}

fn first(site: &SiteVersion) -> &str {
    site.compositions.first().map_or("COMPOSITION", |composition| composition.id.as_str())
}

/// The folder of an installed package: in the project's `node_modules`, or above it in a monorepo's.
fn installed(project: &Path, package: &str) -> Result<PathBuf, Failed> {
    let found = project
        .ancestors()
        .map(|folder| folder.join("node_modules").join(package))
        .find(|folder| folder.is_dir());
    let found = found.and_then(|folder| folder.canonicalize().ok());
    found.ok_or_else(|| {
        Failed::new(Exit::Usage, format!("{} has no {package}: run `npm install {package}` there, in the version of its other Remotion packages", project.display()))
    })
}

fn pack(folder: &Path) -> std::io::Result<Vec<u8>> {
    let mut files = Vec::new();
    collect_files(folder, &mut files)?;
    files.sort();
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for file in files {
        let name = file.strip_prefix(folder).map_err(std::io::Error::other)?;
        archive.append_path_with_name(&file, name)?;
    }
    archive.into_inner()?.finish()
}
