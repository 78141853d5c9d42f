//! The process that is killed: this binary again, running one ignored test.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use lastframe_core::{LeaseToken, RenderId};
use serde::{Deserialize, Serialize};

use crate::check::check;
use crate::history::{Answer, Entry, Event};
use crate::load::mix;
use crate::record::{self, Record};
use crate::session::Session;
use crate::tally::Tally;

/// Tells the child what to do, as JSON.
const LIFE: &str = "LASTFRAME_TEST_LIFE";

/// Lets the child change its encryption key all the while.
pub(crate) const ROTATES: &str = "LASTFRAME_TEST_ROTATES";

/// One life of the store.
#[derive(Debug, Serialize, Deserialize)]
struct Life {
    folder: PathBuf,
    seed: u64,
    /// Counted from 0.
    number: u64,
    now: i64,
    /// The number of its first call.
    calls: u32,
    /// Leases of lives before.
    stale: Vec<(RenderId, LeaseToken)>,
    /// After so many entries, what the disk does from then on.
    rules: VecDeque<(usize, String)>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the other tests run it, to kill it"]
async fn life() {
    let Ok(life) = std::env::var(LIFE) else { return };
    let Life { folder, seed, number, now, calls, stale, mut rules } = serde_json::from_str(&life).unwrap();
    let mut told = 0;
    let sink = move |entry: &Entry| {
        say(entry);
        told += 1;
        if let Some((_, rule)) = rules.pop_front_if(|(after, _)| *after <= told) {
            std::fs::write(std::env::var_os("LASTFRAME_DISK_RULE").unwrap(), &rule).unwrap();
            say(&Entry { at: entry.at, event: Event::Ruled(rule) });
        }
    };
    // The harness may have left a line unfinished.
    std::io::stdout().write_all(b"\n").unwrap();
    let session = Session::open(&folder, now, mix(seed, number), calls, Box::new(sink)).await.unwrap();
    let session = Arc::new(session);
    if std::env::var_os(ROTATES).is_some() {
        let session = Arc::clone(&session);
        tokio::spawn(async move { session.rotate().await });
    }
    session.work(seed, number, stale).await;
}

fn say(entry: &Entry) {
    let mut text = serde_json::to_vec(entry).unwrap();
    text.push(b'\n');
    if std::io::stdout().write_all(&text).is_err() {
        // Whoever listened is gone.
        std::process::exit(1);
    }
}

/// What was heard of what a child said. The line that its death cut short is not a line.
pub(crate) fn heard(said: &[u8]) -> Vec<Entry> {
    let lines = said.split_inclusive(|byte| *byte == b'\n');
    let whole = lines.filter(|line| line.starts_with(b"{") && line.ends_with(b"\n"));
    whole.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

/// All that was said in the lives of a store.
#[derive(Clone)]
pub(crate) struct Lives {
    seed: u64,
    pub(crate) history: Vec<Entry>,
}

impl Lives {
    /// Midnight of some day.
    const START: i64 = 1_767_225_600_000;

    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, history: Vec::new() }
    }

    fn number(&self) -> u64 {
        self.history.iter().filter(|entry| matches!(entry.event, Event::Died)).count() as u64
    }

    /// The clock goes on where it was when the last life ended.
    fn now(&self) -> i64 {
        self.history.last().map_or(Self::START, |entry| entry.at) + 1
    }

    fn calls(&self) -> u32 {
        let asked = |entry: &Entry| match entry.event {
            Event::Asked(number, _) => Some(number),
            _ => None,
        };
        self.history.iter().filter_map(asked).max().map_or(0, |number| number + 1)
    }

    /// Some leases of lives that are over.
    fn stale(&self) -> Vec<(RenderId, LeaseToken)> {
        let leased = |entry: &Entry| match &entry.event {
            Event::Answered(_, Answer::Claimed(Some(leased))) => {
                Some((leased.render.id, leased.token.clone()))
            }
            _ => None,
        };
        self.history.iter().rev().filter_map(leased).take(20).collect()
    }

    /// A life in a process of its own, killed when it has said so much. Returns all that it said.
    pub(crate) fn live_and_die(
        &self,
        folder: &Path,
        entries: usize,
        rules: &[(usize, &str)],
        environment: &[(&str, OsString)],
    ) -> Vec<u8> {
        let life = Life {
            folder: folder.to_owned(),
            seed: self.seed,
            number: self.number(),
            now: self.now(),
            calls: self.calls(),
            stale: self.stale(),
            rules: rules.iter().map(|(after, rule)| (*after, (*rule).to_owned())).collect(),
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::life", "--ignored", "--nocapture"])
            .env(LIFE, serde_json::to_string(&life).unwrap())
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        let (mut said, mut line, mut told) = (Vec::new(), 0, 0);
        loop {
            if told == entries {
                child.kill().unwrap();
            }
            // What it said before its death is heard.
            if pipe.read_until(b'\n', &mut said).unwrap() == 0 {
                break;
            }
            told += usize::from(said[line..].starts_with(b"{"));
            line = said.len();
        }
        child.wait().unwrap();
        assert!(told >= entries, "the store ended by itself after {told} entries");
        said
    }

    /// What was heard of a life that is over.
    pub(crate) fn hear(&mut self, said: &[u8]) {
        self.history.extend(heard(said));
        let at = self.now();
        self.history.push(Entry { at, event: Event::Died });
    }

    /// Goes on with the store in this process.
    async fn open(
        &self,
        folder: &Path,
        sink: impl FnMut(&Entry) + Send + 'static,
    ) -> Result<Session, String> {
        let seed = mix(self.seed, self.number());
        Session::open(folder, self.now(), seed, self.calls(), Box::new(sink)).await
    }

    /// Opens what the last life left and checks it.
    pub(crate) async fn check(&self, folder: &Path) -> Result<Tally, String> {
        let session = self.open(folder, |_| ()).await?;
        self.judge(folder, &record::take(&session.store).await?)
    }

    /// The last life: everything comes to its end, and is checked.
    pub(crate) async fn check_to_the_end(&mut self, folder: &Path) -> Result<Tally, String> {
        let (told, said) = std::sync::mpsc::channel();
        let session = self.open(folder, move |entry| drop(told.send(entry.clone()))).await?;
        session.drain().await;
        self.history.extend(said.try_iter());
        self.judge(folder, &record::take(&session.store).await?)
    }

    fn judge(&self, folder: &Path, record: &Record) -> Result<Tally, String> {
        let tally = check(&self.history, record)?;
        record::look_behind(folder)?;
        Ok(tally)
    }
}
