//! What a run leaves behind: one file a run with its last line, its raw windows and the machine, for
//! [`crate::report`]. The folder is an option of the command line.

use std::{
    fs,
    path::PathBuf,
    sync::OnceLock,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

static FOLDER: OnceLock<PathBuf> = OnceLock::new();

/// Where to; before anything is measured.
pub(crate) fn set_folder(folder: PathBuf) {
    // Set once, by `main`.
    let _ = FOLDER.set(folder);
}

/// Writes a run's file and says where it is.
pub(crate) fn keep(line: &Value, windows: &impl serde::Serialize) -> Result<()> {
    let Some(folder) = FOLDER.get() else { return Ok(()) };
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let made = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let scenario = line["scenario"].as_str().unwrap_or("run");
    let path = folder.join(format!("{scenario}-{}.json", made.as_millis()));
    let file =
        json!({ "line": line, "windows": windows, "made": made.as_secs(), "machine": machine() });
    fs::write(&path, serde_json::to_string(&file)?)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    eprintln!("kept in {}; `ironcast-bench report` draws all that is there", path.display());
    Ok(())
}

fn machine() -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    json!({
        "cpu": model.map_or("unknown", |(_, name)| name),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
    })
}
