//! The records of a history, put down part by part in a file that nobody else sees.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// What is put down at once.
const BLOCK: usize = 32 << 10;

/// Records by part.
#[derive(Debug)]
pub(super) struct Spill {
    file: File,
    /// How many bytes the file has.
    end: u64,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Default)]
struct Part {
    /// Where its blocks begin, and how long they are.
    blocks: Vec<(u64, u32)>,
    /// What is not put down yet.
    rest: Vec<u8>,
}

impl Spill {
    /// For so many parts. The file is where the history is or, where nothing can be written there,
    /// where temporary files are; it has no name, so that it goes with this process.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn new(beside: &Path, parts: u32) -> io::Result<Self> {
        let folder = beside.parent().filter(|it| !it.as_os_str().is_empty());
        let file = tempfile::tempfile_in(folder.unwrap_or(Path::new(".")));
        Ok(Self {
            file: file.or_else(|_| tempfile::tempfile())?,
            end: 0,
            parts: vec![Part::default(); parts as usize],
        })
    }

    /// Adds a record to a part.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn add(&mut self, part: u32, record: &[u8]) -> io::Result<()> {
        let length = u32::try_from(record.len()).map_err(io::Error::other)?;
        let rest = &mut self.parts[part as usize].rest;
        rest.extend(length.to_le_bytes());
        rest.extend(record);
        match rest.len() >= BLOCK {
            true => self.put_down(part),
            false => Ok(()),
        }
    }

    fn put_down(&mut self, part: u32) -> io::Result<()> {
        let Part { blocks, rest } = &mut self.parts[part as usize];
        self.file.seek(SeekFrom::Start(self.end))?;
        self.file.write_all(rest)?;
        let length = u32::try_from(rest.len()).map_err(io::Error::other)?;
        blocks.push((self.end, length));
        self.end += u64::from(length);
        rest.clear();
        // One large record must not keep its room in every part.
        rest.shrink_to(2 * BLOCK);
        Ok(())
    }

    /// Gives the records of a part in the order in which they were added.
    ///
    /// # Errors
    /// They cannot be read, or are not taken.
    pub(super) fn each<E: From<io::Error>>(
        &mut self,
        part: u32,
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Part { blocks, rest } = self.parts[part as usize].clone();
        let mut block = Vec::new();
        for (at, length) in blocks {
            block.resize(length as usize, 0);
            self.file.seek(SeekFrom::Start(at))?;
            self.file.read_exact(&mut block)?;
            records(&block, &mut take)?;
        }
        records(&rest, &mut take)
    }
}

fn records<E>(mut block: &[u8], take: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    while let Some((length, behind)) = block.split_first_chunk::<4>() {
        let (record, rest) = behind.split_at(u32::from_le_bytes(*length) as usize);
        take(record)?;
        block = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_part_by_part_in_their_order() {
        let mut spill = Spill::new(Path::new("no-such-folder/run.history"), 3).expect("a file");
        let record = |at: u32| at.to_le_bytes().repeat(300 + at as usize % 7);
        for at in 0..1_000 {
            spill.add(at % 2, &record(at)).expect("room");
        }
        for part in 0..3 {
            let mut found = Vec::new();
            let read = spill.each::<io::Error>(part, |bytes| {
                found.push(bytes.to_vec());
                Ok(())
            });
            read.expect("a file");
            let due = (0..1_000).filter(|at| at % 2 == part && part < 2);
            assert!(found == due.map(record).collect::<Vec<_>>());
        }
    }
}
