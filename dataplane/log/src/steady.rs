//! A writer of lines that goes on where a write fails, as on a full disk: it counts what is lost, says
//! so once, and once more when it is over. A line that was torn is ended before the next one.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// What has changed.
#[derive(Debug)]
pub enum Change<'a> {
    /// A line was lost, and the one before was not.
    Fails(&'a io::Error),
    /// Lines are written again, after so many were lost.
    GoesOn {
        /// Lines.
        lost: u64,
    },
}

/// See the file's head. Each write is a line.
#[derive(Debug)]
pub struct Steady<W, T> {
    out: W,
    /// Of all since the start.
    failed: Arc<AtomicU64>,
    tell: T,
    /// Since when they fail.
    lost: u64,
    is_torn: bool,
}

impl<W: Write, T: FnMut(Change<'_>)> Steady<W, T> {
    /// Counts there what is lost.
    pub fn new(out: W, failed: Arc<AtomicU64>, tell: T) -> Self {
        Self { out, failed, tell, lost: 0, is_torn: false }
    }

    fn put(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            self.out.write_all(b"\n")?;
            self.is_torn = false;
        }
        let mut rest = line;
        while !rest.is_empty() {
            let written = match self.out.write(rest) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                written => written,
            };
            match written {
                Ok(length) => rest = &rest[length..],
                Err(error) => {
                    self.is_torn = rest.len() < line.len();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl<W: Write, T: FnMut(Change<'_>)> Write for Steady<W, T> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.put(line) {
            Ok(()) if self.lost > 0 => {
                let lost = std::mem::take(&mut self.lost);
                (self.tell)(Change::GoesOn { lost });
            }
            Ok(()) => {}
            Err(error) => {
                self.failed.fetch_add(1, Relaxed);
                self.lost += 1;
                if self.lost == 1 {
                    (self.tell)(Change::Fails(&error));
                }
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // What cannot be flushed is noticed when it is written to.
        let _ = self.out.flush();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A disk with room for so many bytes.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Disk {
        fn grow(&self, bytes: usize) {
            self.0.lock().unwrap().1 += bytes;
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().0.clone()).unwrap()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.lock().unwrap();
            let fit = bytes.len().min(disk.1);
            if fit == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            disk.0.extend_from_slice(&bytes[..fit]);
            disk.1 -= fit;
            Ok(fit)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_is_said_once_and_lines_stay_whole() {
        let (disk, failed) = (Disk::default(), Arc::<AtomicU64>::default());
        let said = Arc::<Mutex<Vec<String>>>::default();
        let tell = {
            let said = Arc::clone(&said);
            move |change: Change<'_>| said.lock().unwrap().push(format!("{change:?}"))
        };
        let mut lines = Steady::new(disk.clone(), Arc::clone(&failed), tell);
        disk.grow(10);
        for _ in 0..3 {
            lines.write_all(b"a line\n").unwrap();
        }
        disk.grow(100);
        lines.write_all(b"another\n").unwrap();
        assert_eq!(disk.text(), "a line\na l\nanother\n");
        assert_eq!(failed.load(Relaxed), 2);
        let said = said.lock().unwrap();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("StorageFull") && said[1].contains("lost: 2"), "{said:?}");
    }
}
