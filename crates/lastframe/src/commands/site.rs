//! `lastframe site`: Remotion projects, bundled and uploaded.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use lastframe_core::percent::encode;
use lastframe_core::site::SiteVersion;
use reqwest::{Method, RequestBuilder};

use super::{Ask, Server, note, print, say};
use crate::client::{Client, Failed};
use crate::exit::Exit;
use crate::http::{Current, VersionView};
use crate::sites::{SHORTEST_VERSION, collect_files};

pub(super) const EXAMPLES: &str = "\
Examples:
  lastframe site add ./my-video --name my-video
  lastframe site add ./my-video --name my-video --server https://renders.example.com --token TOKEN
  lastframe site show my-video
  lastframe site rollback my-video 3f9a01c2

A render may name a version: `lastframe render my-video@3f9a01c2 main`.";

#[derive(Debug, Subcommand)]
pub(super) enum Site {
    /// Bundle a Remotion project with its own `remotion bundle`, and upload it
    Add(Add),
    /// List sites with their compositions
    List(Ask),
    /// Show a site: its versions, and its compositions with their default props
    Show(Show),
    /// Let a site's name stand for an earlier version again
    Rollback(Rollback),
    /// Remove a site, or a version of it, that no unfinished render needs
    Remove(Remove),
}

#[derive(Args, Debug)]
pub(super) struct Add {
    /// The folder of the Remotion project, its packages installed; or the https:// URL where its bundle lies
    project: String,
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
pub(super) struct Show {
    /// The site's name
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

#[derive(Args, Debug)]
pub(super) struct Rollback {
    /// The site's name
    name: String,
    /// The version, or the beginning of it
    version: String,
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
    /// Only this version, or the one that begins so
    #[arg(long)]
    version: Option<String>,
    #[command(flatten)]
    server: Server,
}

impl Site {
    pub(super) async fn run(self) -> Result<Exit, Failed> {
        match self {
            Self::Add(add) => add.run().await,
            Self::List(ask) => list(ask).await,
            Self::Show(show) => show.run().await,
            Self::Rollback(rollback) => {
                let client = rollback.server.client()?;
                let version = whole(&client, &rollback.name, &rollback.version).await?;
                let request = client
                    .request(Method::PUT, &format!("/v1/sites/{}/current", encode(&rollback.name)))
                    .json(&Current { version });
                let site = client.json(request).await?;
                print(rollback.json, &site, || description(&site))?;
                Ok(Exit::Done)
            }
            Self::Remove(remove) => {
                let client = remove.server.client()?;
                let mut path = format!("/v1/sites/{}", encode(&remove.name));
                if let Some(version) = &remove.version {
                    path.push_str(&format!("/versions/{}", whole(&client, &remove.name, version).await?));
                }
                client.send(client.request(Method::DELETE, &path)).await?;
                let version =
                    remove.version.map_or_else(String::new, |version| format!(" version {version}"));
                let removed = serde_json::json!({"removed": remove.name});
                print(remove.json, &removed, || format!("removed {}{version}", remove.name))?;
                Ok(Exit::Done)
            }
        }
    }
}

/// The version of the site that begins so.
async fn whole(client: &Client, name: &str, start: &str) -> Result<String, Failed> {
    let versions: Vec<VersionView> = client.get(&format!("/v1/sites/{}/versions", encode(name))).await?;
    let mut found =
        versions.into_iter().map(|view| view.version).filter(|version| version.starts_with(start));
    match (found.next(), found.next()) {
        (Some(version), None) if start.len() >= SHORTEST_VERSION => Ok(version),
        (Some(_), _) => Err(Failed::new(
            Exit::Usage,
            format!(
                "`{start}` is too short: say at least {SHORTEST_VERSION} digits of the version, and enough to tell it from others"
            ),
        )),
        (None, _) => {
            let hint = format!("{name} has no version {start}: `lastframe site show {name}` lists them");
            Err(Failed::new(Exit::Refused, hint))
        }
    }
}

impl Add {
    /// A project whose entry point is what it is configured for.
    pub(super) fn of(project: &Path, name: &str, server: &Server) -> Self {
        Self {
            project: project.to_string_lossy().into_owned(),
            name: name.into(),
            entry: None,
            json: false,
            server: server.clone(),
        }
    }

    async fn run(self) -> Result<Exit, Failed> {
        let site = self.add(&self.server.client()?).await?;
        print(self.json, &site, || {
            let (name, first) = (&site.name, first(&site));
            format!("{}\nRender one:\n  lastframe render {name} {first} -o out/video.mp4", description(&site))
        })?;
        Ok(Exit::Done)
    }

    /// Bundles the project and uploads it, or says at which URL its bundle lies.
    pub(super) async fn add(&self, client: &Client) -> Result<SiteVersion, Failed> {
        let request = client.request(Method::POST, &format!("/v1/sites/{}/versions", encode(&self.name)));
        let request = if self.project.starts_with("https://") || self.project.starts_with("http://") {
            request.json(&serde_json::json!({"url": self.project}))
        } else {
            self.upload(request).await?
        };
        client.json(request).await
    }

    async fn upload(&self, request: RequestBuilder) -> Result<RequestBuilder, Failed> {
        let project = Path::new(&self.project)
            .canonicalize()
            .map_err(|error| Failed::new(Exit::Usage, format!("no project at {}: {error}", self.project)))?;
        let remotion = installed(&project, "remotion")?;
        let bundle = tempfile::tempdir()?;
        // Remotion refuses an out-dir that exists and is not a bundle of its own.
        let out = bundle.path().join("bundle");
        self.bundle(&project, &out).await?;
        let archive = pack(&out).context("cannot pack the bundle")?;
        note(format!("uploading {:.1} MB", archive.len() as f64 / 1e6));
        let mut request = request;
        if let Some(version) = package_version(&remotion) {
            request = request.query(&[("remotionVersion", version)]);
        }
        // The server is on this machine, and we are its administrator: it may use what is installed here already.
        if self.server.is_own()
            && let Ok(renderer) = installed(&project, "@remotion/renderer")
        {
            request = request.query(&[("renderer", renderer.to_string_lossy())]);
        }
        Ok(request.header("content-type", "application/gzip").body(archive))
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
                format!(
                    "`remotion bundle` failed in {}; its reason is above (`--entry FILE` names an entry point)",
                    project.display()
                ),
            ));
        }
        Ok(())
    }
}

async fn list(Ask { json, server }: Ask) -> Result<Exit, Failed> {
    let sites: Vec<SiteVersion> = server.client()?.get("/v1/sites").await?;
    print(json, &sites, || match sites.as_slice() {
        [] => "no sites yet: add one with `lastframe site add PROJECT --name NAME`".to_owned(),
        sites => sites.iter().map(description).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(Exit::Done)
}

impl Show {
    async fn run(self) -> Result<Exit, Failed> {
        let client = self.server.client()?;
        let path = format!("/v1/sites/{}", encode(&self.name));
        let site: SiteVersion = client.get(&path).await?;
        if self.json {
            say(serde_json::to_string_pretty(&site)?);
            return Ok(Exit::Done);
        }
        let versions: Vec<VersionView> = client.get(&format!("{path}/versions")).await?;
        describe(&site);
        for composition in site.compositions.iter().filter(|composition| composition.error.is_none()) {
            say(format!("default props of {}: {}", composition.id, composition.default_props));
        }
        say("versions, the last added first:");
        for view in versions {
            say(format!(
                "  {} {}, Remotion {}, {:.1} MB, added {}",
                if view.current { "*" } else { " " },
                view.version.get(..12).unwrap_or_default(),
                view.remotion_version,
                view.size_in_bytes as f64 / 1e6,
                view.created_at.strftime("%Y-%m-%d %H:%M"),
            ));
        }
        Ok(Exit::Done)
    }
}

fn describe(site: &SiteVersion) {
    say(description(site));
}

fn description(site: &SiteVersion) -> String {
    let version = site.version.get(..12).unwrap_or_default();
    let mut lines = vec![format!("{} (version {version}, Remotion {})", site.name, site.remotion_version)];
    lines.extend(site.compositions.iter().map(|composition| match &composition.error {
        Some(error) => format!("  {:<24} fails with its default props: {error}", composition.id),
        None => {
            let seconds = f64::from(composition.duration_in_frames) / composition.fps;
            let (width, height, fps) = (composition.width, composition.height, composition.fps);
            format!("  {:<24} {width}x{height}, {fps} fps, {seconds:.1} s", composition.id)
        }
    }));
    lines.join("\n")
}

fn first(site: &SiteVersion) -> &str {
    site.compositions.first().map_or("COMPOSITION", |composition| composition.id.as_str())
}

fn package_version(folder: &Path) -> Option<String> {
    let package: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("package.json")).ok()?).ok()?;
    package["version"].as_str().map(str::to_owned)
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
