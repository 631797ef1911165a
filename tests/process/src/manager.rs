//! A service manager's side of the socket that processes tell their life to.

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use crate::LIMIT;

/// A socket as systemd gives one to a service.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    told: Vec<String>,
}

impl Manager {
    /// At this place.
    #[must_use]
    pub fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
        Self { socket, path: path.to_owned(), told: Vec::new() }
    }

    /// What a process is given to find it: a watchdog of so much time.
    #[must_use]
    pub fn environment(&self, watchdog: Duration) -> [(String, String); 2] {
        let path = self.path.display().to_string();
        let time = watchdog.as_micros().to_string();
        [("NOTIFY_SOCKET".to_owned(), path), ("WATCHDOG_USEC".to_owned(), time)]
    }

    /// The lines that have come since they were last forgotten.
    pub fn told(&mut self) -> &[String] {
        let mut bytes = [0; 4_096];
        while let Ok(length) = self.socket.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]);
            self.told.extend(text.lines().map(str::to_owned));
        }
        &self.told
    }

    /// Begins anew.
    pub fn forget(&mut self) {
        let _ = self.told();
        self.told.clear();
    }

    /// Waits until a line has come so many times.
    pub fn wait_for(&mut self, line: &str, times: usize) {
        let end = Instant::now() + LIMIT;
        while self.told().iter().filter(|told| *told == line).count() < times {
            assert!(Instant::now() < end, "{line} did not come {times} times: {:?}", self.told);
        }
    }
}
