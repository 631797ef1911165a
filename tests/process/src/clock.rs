//! A wall clock that a test steps, for processes that are started with it: `clock.c` is loaded into
//! them. Only theirs is stepped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// See the head of this file.
pub struct SteppedClock {
    folder: PathBuf,
}

impl Drop for SteppedClock {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl SteppedClock {
    /// Right, at first.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let folder = format!("ironcast-clock-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        fs::create_dir_all(&folder).expect("a folder");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/clock.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&folder.join("clock.so"), &source])
            .status();
        assert!(compiled.expect("a compiler of C is there").success());
        let clock = Self { folder };
        clock.set_off(0);
        clock
    }

    /// What a process is given to have it.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.folder.join(name).display().to_string();
        [("LD_PRELOAD", path("clock.so")), ("IRONCAST_TEST_CLOCK", path("off"))]
    }

    /// From now on it is so many seconds ahead of the right time, or behind it.
    pub fn set_off(&self, seconds: i64) {
        let new = self.folder.join("new");
        fs::write(&new, seconds.to_string()).expect("a file");
        fs::rename(new, self.folder.join("off")).expect("its place");
    }
}
