//! The high-water mark: how far the database has come, kept outside of it.
//!
//! SQLite drops the end of a write-ahead log that does not add up, as after a torn write. A bit that was flipped in the
//! middle looks the same to it, and would silently take acknowledged commits with it; so would an old copy of the
//! database put in its place. Each commit is therefore counted in the database, and its number is synced into a file
//! of its own before anybody is answered. A database that is behind its mark is not opened.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// The file's name, beside the database.
pub(crate) const FILE: &str = "high-water";

/// The mark is written in turns to two places far enough apart that no torn write can take both.
const SLOTS: [u64; 2] = [0, 4096];
/// Longer than any line: `lastframe`, 16 hex digits, up to 20 digits, 8 hex digits.
const LINE: usize = 64;

/// How far a database has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Which database: see the column of that name.
    pub(crate) database: String,
    /// Its commits.
    pub(crate) commits: u64,
}

impl Reached {
    fn line(&self) -> Vec<u8> {
        let text = format!("lastframe {} {}", self.database, self.commits);
        let mut line = format!("{text} {:08x}", crc32fast::hash(text.as_bytes())).into_bytes();
        line.resize(LINE - 1, b' ');
        line.push(b'\n');
        line
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let (text, crc) = std::str::from_utf8(line).ok()?.trim_end().rsplit_once(' ')?;
        if u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(text.as_bytes()) {
            return None;
        }
        let (database, commits) = text.strip_prefix("lastframe ")?.split_once(' ')?;
        Some(Self { database: database.to_owned(), commits: commits.parse().ok()? })
    }
}

/// The mark of a database that is open.
#[derive(Debug)]
pub(crate) struct Mark {
    file: File,
    reached: Reached,
}

impl Mark {
    /// The mark in `folder`; none when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or, with `InvalidData`, makes no sense.
    pub(crate) fn read(folder: &Path) -> io::Result<Option<Reached>> {
        let file = match File::open(folder.join(FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut furthest: Option<Reached> = None;
        for slot in SLOTS {
            let mut line = [0; LINE];
            match file.read_exact_at(&mut line, slot) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                Err(error) => return Err(error),
            }
            if let Some(reached) = Reached::parse(&line)
                && furthest.as_ref().is_none_or(|other| other.commits < reached.commits)
            {
                furthest = Some(reached);
            }
        }
        match furthest {
            Some(reached) => Ok(Some(reached)),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "the high-water mark is damaged")),
        }
    }

    /// Puts the mark where the database is, however high it was. On disk when it returns.
    pub(crate) fn set(folder: &Path, reached: Reached) -> io::Result<Self> {
        let path = folder.join(FILE);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        for slot in SLOTS {
            file.write_all_at(&reached.line(), slot)?;
        }
        file.sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(Self { file, reached })
    }

    /// Moves the mark up. On disk when it returns.
    pub(crate) fn raise(&mut self, commits: u64) -> io::Result<()> {
        self.reached.commits = commits;
        self.file.write_all_at(&self.reached.line(), SLOTS[usize::from(!commits.is_multiple_of(2))])?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(commits: u64) -> Reached {
        Reached { database: "00112233445566ff".into(), commits }
    }

    #[test]
    fn what_is_raised_is_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(folder.path()).unwrap(), None);
        let mut mark = Mark::set(folder.path(), reached(5)).unwrap();
        for commits in 6..=9 {
            mark.raise(commits).unwrap();
            assert_eq!(Mark::read(folder.path()).unwrap(), Some(reached(commits)));
        }
        assert_eq!(reached(u64::MAX).line().len(), LINE);
    }

    #[test]
    fn a_flipped_bit_takes_back_one_commit_at_most_and_two_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut mark = Mark::set(folder.path(), reached(5)).unwrap();
        mark.raise(6).unwrap();
        mark.raise(7).unwrap();
        let path = folder.path().join(FILE);
        let written = std::fs::read(&path).unwrap();
        let text = reached(7).line().iter().position(|byte| *byte == b' ').unwrap();
        for slot in SLOTS {
            for bit in 0..text * 8 {
                let mut flipped = written.clone();
                flipped[usize::try_from(slot).unwrap() + bit / 8] ^= 1 << (bit % 8);
                std::fs::write(&path, flipped).unwrap();
                let left = Mark::read(folder.path()).unwrap().unwrap().commits;
                assert!((6..=7).contains(&left), "{left}");
            }
        }
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(Mark::read(folder.path()).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
