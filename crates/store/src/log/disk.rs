//! The bytes under the log: a file of fixed size whose blocks are taken before they are needed, so that a disk that fills
//! up later cannot keep a reservation from being written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the log needs of a disk. Behind a trait so that tests can have one that fails, tears and loses power.
pub(crate) trait Disk: Send + Sync {
    /// Reads exactly these bytes.
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes all of these bytes.
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Returns once everything written is on stable storage.
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn read_at(&self, into: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(into, at)
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Opens an existing log for this process alone; `None` if there is none.
///
/// # Errors
/// `WouldBlock` if another process has it.
pub(crate) fn open(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => {
            file.try_lock().map_err(io::Error::from)?;
            Ok(Some(file))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Creates a log of `size` bytes with these first bytes in place of whatever is there. It has its name only once it is
/// whole, so a disk without room for it leaves no half of one.
pub(crate) fn create(path: &Path, size: u64, first: &[u8]) -> io::Result<File> {
    let draft = path.with_extension("new");
    let made = draft_of(&draft, size, first).and_then(|file| {
        std::fs::rename(&draft, path)?;
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    });
    if made.is_err() {
        // Half a draft would keep the space that somebody is just looking for.
        let _ = std::fs::remove_file(&draft);
    }
    made
}

fn draft_of(draft: &Path, size: u64, first: &[u8]) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(draft)?;
    file.try_lock().map_err(io::Error::from)?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) => {}
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; 1 << 20];
            let mut at = 0;
            while at < size {
                let n = (size - at).min(zeros.len() as u64);
                file.write_all_at(&zeros[..usize::try_from(n).unwrap_or(0)], at)?;
                at += n;
            }
        }
        Err(e) => return Err(e.into()),
    }
    file.write_all_at(first, 0)?;
    file.sync_all()?;
    Ok(file)
}
