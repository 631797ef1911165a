//! Processes of a server: started with a log of their own, with those that they start themselves,
//! and their last words if they do not get ready. Called by the servers; never waits.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};

/// Starts a command; its output goes to `NAME.log` in the folder. Its standard input stays open as
/// long as the child is held: helpers end with it.
pub(super) fn spawn(mut command: Command, name: &str, folder: &Path) -> Result<Child> {
    let log = File::create(folder.join(format!("{name}.log")))?;
    command
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{name} cannot be started"))
}

/// The end of a log.
pub(super) fn last_words(folder: &Path, name: &str) -> String {
    let log = fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    format!("{name} said last:\n{}", lines[lines.len().saturating_sub(8)..].join("\n"))
}

/// An empty folder for one server of this run.
pub(super) fn folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("ironcast-bench-{name}-{}", std::process::id()));
    // Of an earlier block of this run.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// A process and all that it started, at any depth.
pub(super) fn with_children(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while at < all.len() {
        all.extend(children(all[at]));
        at += 1;
    }
    all
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

/// The gateways' folder: in the source tree, or where `IRONCAST_BENCH_PEERS` says.
pub(super) fn peers_folder() -> PathBuf {
    std::env::var_os("IRONCAST_BENCH_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("peers"), PathBuf::from)
}

/// A program of the search path.
pub(super) fn found(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|one| one.join(program).is_file()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_of_children_are_found() {
        // The outer shell waits for an inner one, which waits for its input.
        let mut child = Command::new("sh")
            .args(["-c", "sh -c 'read line; true'; true"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a shell");
        let pid = child.id();
        while with_children(pid).len() < 2 {
            assert!(child.try_wait().expect("its state").is_none(), "it ended too early");
            std::thread::yield_now();
        }
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert_eq!(with_children(pid), [pid]);
    }

    #[test]
    fn a_log_ends_with_its_last_lines() {
        let folder = folder("process-test").expect("a folder");
        let mut command = Command::new("sh");
        command.args(["-c", "for n in 1 2 3 4 5 6 7 8 9; do echo line $n; done"]);
        spawn(command, "words", &folder).expect("a shell").wait().expect("it ends");
        let words = last_words(&folder, "words");
        assert!(words.ends_with("line 9") && !words.contains("line 1\n"), "{words}");
        fs::remove_dir_all(folder).expect("the folder goes");
    }
}
