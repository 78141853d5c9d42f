//! What a disk holds after its power failed: everything that was synced, and any part of what was not.
//!
//! `disk.c`, preloaded into the process that writes, keeps the journal that this is worked out from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// Files by name.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// The interposer, compiled once in each run.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (source, compiled) = (folder.path().join("disk.c"), folder.path().join("disk.so"));
        std::fs::write(&source, include_str!("disk.c")).unwrap();
        let mut compiler = Command::new(std::env::var_os("CC").unwrap_or_else(|| "cc".into()));
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).args([&compiled, &source]);
        assert!(compiler.status().unwrap().success(), "{compiler:?}");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("disk.so");
        std::fs::rename(compiled, &library).unwrap();
        library
    })
}

/// A folder on a disk that is watched: `files` is what is on it, beside it lie the journal and the rule.
pub(crate) struct Watched {
    folder: TempDir,
}

impl Watched {
    pub(crate) fn new(image: &Image) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let watched = Self { folder };
        std::fs::create_dir(watched.files()).unwrap();
        write(image, &watched.files());
        std::fs::write(watched.rule(), "").unwrap();
        watched
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// What must happen on the disk is written here.
    pub(crate) fn rule(&self) -> PathBuf {
        self.folder.path().join("rule")
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// What a process that is to be watched needs in its environment.
    pub(crate) fn environment(&self) -> [(&'static str, OsString); 4] {
        [
            ("LD_PRELOAD", library().into()),
            ("LASTFRAME_DISK_FOLDER", self.files().into()),
            ("LASTFRAME_DISK_JOURNAL", self.journal().into()),
            ("LASTFRAME_DISK_RULE", self.rule().into()),
        ]
    }

    /// Everything that happened, in order.
    pub(crate) fn happened(&self) -> Vec<Happened> {
        read(&std::fs::read(self.journal()).unwrap())
    }
}

pub(crate) fn write(image: &Image, folder: &Path) {
    for (name, bytes) in image {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Happened {
    Opened {
        inode: u64,
        name: String,
    },
    Created {
        inode: u64,
        name: String,
    },
    Wrote {
        inode: u64,
        offset: usize,
        bytes: Vec<u8>,
    },
    Resized {
        inode: u64,
        length: usize,
    },
    Synced {
        inode: u64,
    },
    SyncFailed {
        inode: u64,
    },
    FolderSynced,
    Renamed {
        from: String,
        to: String,
    },
    Unlinked {
        name: String,
    },
    /// So many bytes went to the standard output.
    Said(usize),
}

/// The last record may have been cut short by the death of the process.
fn read(mut journal: &[u8]) -> Vec<Happened> {
    let mut happened = Vec::new();
    while let Some((head, rest)) = journal.split_first_chunk::<24>() {
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap());
        let Some((payload, rest)) = rest.split_at_checked(word(4) as usize) else { break };
        let (inode, offset) = (long(8), usize::try_from(long(16)).unwrap());
        let name = || String::from_utf8(payload.to_vec()).unwrap();
        happened.push(match word(0) {
            1 => Happened::Opened { inode, name: name() },
            2 => Happened::Created { inode, name: name() },
            3 => Happened::Wrote { inode, offset, bytes: payload.to_vec() },
            4 => Happened::Resized { inode, length: offset },
            5 => Happened::Synced { inode },
            6 => Happened::SyncFailed { inode },
            7 => Happened::FolderSynced,
            8 => {
                let names = name();
                let (from, to) = names.split_once('/').unwrap();
                Happened::Renamed { from: from.into(), to: to.into() }
            }
            9 => Happened::Unlinked { name: name() },
            10 => Happened::Said(offset),
            op => panic!("the journal has {op}"),
        });
        journal = rest;
    }
    happened
}

/// Syncs that the disk says it did, and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    None,
    /// Of files whose name ends so.
    Files(&'static str),
    Folder,
}

/// The disk, as it comes to be.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    lie: Lie,
    rng: fastrand::Rng,
    files: Vec<File>,
    by_inode: BTreeMap<u64, usize>,
    /// Which file each name stands for, once the folder is synced.
    names: BTreeMap<String, usize>,
    /// The same, as the process sees it.
    seen: BTreeMap<String, usize>,
    unsynced: Vec<Naming>,
}

#[derive(Clone, Debug, Default)]
struct File {
    name: String,
    synced: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Resize(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Linked(String, usize),
    Unlinked(String),
    Renamed(String, String, usize),
}

impl Disk {
    pub(crate) fn new(image: &Image, lie: Lie, seed: u64) -> Self {
        let file = |(name, bytes): (&String, &Vec<u8>)| File {
            name: name.clone(),
            synced: bytes.clone(),
            unsynced: Vec::new(),
        };
        let names: BTreeMap<_, _> = image.keys().cloned().zip(0..).collect();
        Self {
            lie,
            rng: fastrand::Rng::with_seed(seed),
            files: image.iter().map(file).collect(),
            by_inode: BTreeMap::new(),
            seen: names.clone(),
            names,
            unsynced: Vec::new(),
        }
    }

    pub(crate) fn note(&mut self, happened: &Happened) {
        match happened {
            Happened::Opened { inode, name } => drop(self.by_inode.insert(*inode, self.seen[name])),
            Happened::Created { inode, name } => {
                let file = self.files.len();
                self.files.push(File { name: name.clone(), ..File::default() });
                self.by_inode.insert(*inode, file);
                self.seen.insert(name.clone(), file);
                self.unsynced.push(Naming::Linked(name.clone(), file));
            }
            Happened::Wrote { inode, offset, bytes } => {
                let change = Change::Write { offset: *offset, bytes: bytes.clone() };
                self.file(*inode).unsynced.push(change);
            }
            Happened::Resized { inode, length } => self.file(*inode).unsynced.push(Change::Resize(*length)),
            Happened::Synced { inode } => {
                let lie = self.lie;
                let file = self.file(*inode);
                if !matches!(lie, Lie::Files(end) if file.name.ends_with(end)) {
                    file.sync();
                }
            }
            // What a kernel does then: it forgets what it could not write, and the next sync succeeds without it.
            Happened::SyncFailed { inode } => {
                let mut rng = self.rng.fork();
                self.file(*inode).keep_some(0.5, &mut rng);
            }
            Happened::FolderSynced => {
                if self.lie != Lie::Folder {
                    for naming in std::mem::take(&mut self.unsynced) {
                        naming.apply(&mut self.names);
                    }
                }
            }
            Happened::Renamed { from, to } => {
                let naming = Naming::Renamed(from.clone(), to.clone(), self.seen[from]);
                naming.apply(&mut self.seen);
                self.unsynced.push(naming);
            }
            Happened::Unlinked { name } => {
                let naming = Naming::Unlinked(name.clone());
                naming.apply(&mut self.seen);
                self.unsynced.push(naming);
            }
            Happened::Said(_) => {}
        }
    }

    fn file(&mut self, inode: u64) -> &mut File {
        &mut self.files[self.by_inode[&inode]]
    }

    /// What is found when the power is back. Shared memory was never on the disk.
    pub(crate) fn lose_power(mut self, seed: u64) -> Image {
        self.rng.seed(seed);
        let chance = |rng: &mut fastrand::Rng| [0.0, 0.1, 0.5, 0.9, 1.0][rng.usize(..5)];
        // Some of what was never synced comes through often enough to hide that the rest is lost.
        let likely = if self.lie == Lie::Folder { 0.0 } else { chance(&mut self.rng) };
        for naming in self.unsynced {
            if self.rng.f64() < likely {
                naming.apply(&mut self.names);
            }
        }
        let mut image = Image::new();
        for (name, file) in self.names {
            if !name.ends_with("-shm") {
                let likely = chance(&mut self.rng);
                let mut file = self.files[file].clone();
                file.keep_some(likely, &mut self.rng);
                image.insert(name, file.synced);
            }
        }
        image
    }
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Linked(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Unlinked(name) => drop(names.remove(name)),
            Self::Renamed(from, to, file) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
        }
    }
}

impl File {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write { offset, bytes } => put(&mut self.synced, offset, &bytes),
                Change::Resize(length) => self.synced.resize(length, 0),
            }
        }
    }

    /// Each sector that was written reaches the disk or not. The file may have become longer all the same, and what
    /// lies in sectors that never came is anything.
    fn keep_some(&mut self, likely: f64, rng: &mut fastrand::Rng) {
        let changes = std::mem::take(&mut self.unsynced);
        if rng.bool() {
            let end = |change: &Change| match change {
                Change::Write { offset, bytes } => offset + bytes.len(),
                Change::Resize(length) => *length,
            };
            let longest = changes.iter().map(end).max().unwrap_or(0);
            let stale = if rng.bool() { rng.u8(..) } else { 0 };
            self.synced.resize(longest.max(self.synced.len()), stale);
        }
        for change in changes {
            match change {
                Change::Write { offset, bytes } => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to = bytes.len().min(((offset + from) / SECTOR + 1) * SECTOR - offset);
                        if rng.f64() < likely {
                            put(&mut self.synced, offset + from, &bytes[from..to]);
                        }
                        from = to;
                    }
                }
                Change::Resize(length) => {
                    if rng.f64() < likely {
                        self.synced.resize(length, 0);
                    }
                }
            }
        }
    }
}

fn put(file: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset..end].copy_from_slice(bytes);
}
