//! The kernel's memory of one server: a memory control group that its processes are put into, which
//! then holds what the kernel allocates for them (sockets above all), apart from that of the load.
//! Used by the scenario `memory`; removes the group when it is dropped, after the processes.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where control groups of version 1 and 2 lie, and what the group's folder has to offer.
const HIERARCHIES: [(&str, &str); 2] =
    [("/sys/fs/cgroup/memory", "memory.kmem.usage_in_bytes"), ("/sys/fs/cgroup", "memory.stat")];

/// See the file's head.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    folder: PathBuf,
    file: &'static str,
}

impl MemoryGroup {
    /// An empty group; none without the rights, or where the kernel does not count.
    pub(crate) fn new() -> Option<Self> {
        HIERARCHIES.into_iter().find_map(|(root, file)| {
            let folder = Path::new(root).join(format!("ironcast-bench-{}", std::process::id()));
            fs::create_dir(&folder).ok()?;
            let group = Self { folder, file };
            group.kernel_bytes().map(|_| group)
        })
    }

    /// What these processes allocate from now on is counted here; false if that is refused.
    pub(crate) fn take_in(&self, pids: &[u32]) -> bool {
        let list = self.folder.join("cgroup.procs");
        pids.iter().all(|pid| fs::write(&list, pid.to_string()).is_ok())
    }

    /// The kernel's memory of the processes, since they are in the group.
    pub(crate) fn kernel_bytes(&self) -> Option<u64> {
        parse(&fs::read_to_string(self.folder.join(self.file)).ok()?)
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // Fails while processes are in it: the caller ends them first.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// One number (version 1), or the line `kernel` of several (version 2, since Linux 5.18).
fn parse(text: &str) -> Option<u64> {
    let line =
        text.lines().find_map(|line| line.strip_prefix("kernel ")).or_else(|| text.lines().next());
    line?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(parse("2473984\n"), Some(2_473_984));
        assert_eq!(parse("anon 10\nfile 20\nkernel 30\n"), Some(30));
        assert_eq!(parse("anon 10\nfile 20\n"), None);
    }
}
