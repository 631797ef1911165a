//! What a broadcast leaves on the disk: a folder for each room that is watched, one for each recording;
//! how much that is, and when it goes. Whatever a killed service left is put right at the next
//! start: its FFmpeg ends, its playlists end, its recordings are said to be interrupted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ironcast_api::Id;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// What runs is noted in this file, beside what it writes.
const STATE: &str = "state.json";

/// The SDP that FFmpeg reads.
pub const SDP: &str = "input.sdp";

/// Playlists: what is live, and all of it at the end.
pub const LIVE: &str = "index.m3u8";
pub const WHOLE: &str = "vod.m3u8";

/// What is known of a recording.
pub const ABOUT: &str = "recording.json";

/// The parts of a recording that are to be joined.
pub const PARTS: &str = "parts.txt";

/// Recordings that are told of a room.
const LISTED_MAX: usize = 200;

/// What the next start has to know of a running broadcast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// FFmpeg's number.
    pub pid: i32,
    /// When it was started, as the kernel counts: a number is used again.
    pub started: String,
    /// The plain transport.
    pub transport_id: String,
    /// FFmpeg's ports.
    pub ports: Vec<u16>,
}

/// When a process was started, in ticks since the host was (proc(5), field 22 of stat).
pub fn started(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.split(' ').nth(19).map(str::to_owned)
}

/// The folder of all broadcasts.
#[derive(Debug, Clone)]
pub struct Shelf {
    root: PathBuf,
}

/// Whole or not at all.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    fs::write(&beside, text)?;
    fs::rename(beside, path)
}

impl Shelf {
    /// In this folder; it is made when it is needed.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Where a room's segments are. No id is a way out of there: none has a slash in it.
    pub fn of_room(&self, room_id: &Id) -> PathBuf {
        self.root.join("hls").join(format!("r-{room_id}"))
    }

    /// Where a recording is.
    pub fn of_recording(&self, id: &Uuid) -> PathBuf {
        self.root.join("recordings").join(id.to_string())
    }

    /// Notes what runs.
    pub fn note(folder: &Path, state: &State) -> io::Result<()> {
        write(&folder.join(STATE), &serde_json::to_string(state).unwrap_or_default())
    }

    /// Nothing runs any more.
    pub fn forget(folder: &Path) {
        let _ = fs::remove_file(folder.join(STATE));
    }

    /// Makes an empty folder of it; what ran there is ended.
    pub fn clear(folder: &Path) -> io::Result<()> {
        end_leftover(folder);
        match fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir_all(folder)
    }

    fn folders(&self) -> Vec<PathBuf> {
        let below = |kind: &str| fs::read_dir(self.root.join(kind)).into_iter().flatten().flatten();
        below("hls").chain(below("recordings")).map(|entry| entry.path()).collect()
    }

    /// Puts right what an earlier start left.
    pub fn tidy(&self) {
        for folder in self.folders().iter().filter(|folder| folder.join(STATE).exists()) {
            tracing::info!(folder = %folder.display(), "a broadcast of an earlier start is ended");
            end_leftover(folder);
            Self::forget(folder);
            let live = folder.join(LIVE);
            if let Ok(text) = fs::read_to_string(&live)
                && !text.contains("#EXT-X-ENDLIST")
            {
                let _ = write(&live, &format!("{text}#EXT-X-ENDLIST\n"));
            }
        }
        let recordings = fs::read_dir(self.root.join("recordings")).into_iter().flatten().flatten();
        for folder in recordings.map(|entry| entry.path()) {
            if let Some(mut about) = read_about(&folder).filter(|it| it["state"] == "recording") {
                about["state"] = "interrupted".into();
                about["parts"] = parts(&folder).into();
                let _ = write(&folder.join(ABOUT), &about.to_string());
            }
        }
    }

    /// How many bytes all of it has.
    pub fn bytes(&self) -> u64 {
        let size = |folder: &PathBuf| -> u64 {
            let files = fs::read_dir(folder).into_iter().flatten().flatten();
            files.filter_map(|file| file.metadata().ok()).map(|it| it.len()).sum()
        };
        self.folders().iter().map(size).sum()
    }

    /// Deletes what nothing was written to for so long, and that does not run.
    pub fn expire(&self, kept: Duration) {
        let is_old = |folder: &PathBuf| {
            let changed = folder.metadata().and_then(|it| it.modified());
            let age = changed.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            !folder.join(STATE).exists() && age.is_some_and(|age| age > kept)
        };
        for folder in self.folders().iter().filter(|folder| is_old(folder)) {
            tracing::info!(folder = %folder.display(), "deleting a broadcast that is old");
            let _ = fs::remove_dir_all(folder);
        }
    }

    /// What is known of a room's recordings, the newest first.
    pub fn recordings(&self, room_id: &Id) -> Vec<Value> {
        let folders = fs::read_dir(self.root.join("recordings")).into_iter().flatten().flatten();
        let about = folders.filter_map(|folder| read_about(&folder.path()));
        let mut found: Vec<_> =
            about.filter(|about| about["roomId"] == *room_id.as_str()).collect();
        found.sort_by_key(|about| std::cmp::Reverse(about["startedAt"].as_u64()));
        found.truncate(LISTED_MAX);
        // Who was there and spoke is in the file itself.
        for about in found.iter_mut().filter_map(Value::as_object_mut) {
            about.remove("participants");
            about.remove("speaking");
        }
        found
    }
}

fn read_about(folder: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(folder.join(ABOUT)).ok()?).ok()
}

/// Where the parts of a recording are had that were never joined.
fn parts(folder: &Path) -> Vec<String> {
    let id = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let mut parts: Vec<_> = names.filter(|name| name.starts_with("part-")).collect();
    parts.sort();
    parts.into_iter().map(|name| format!("/recordings/{id}/{name}")).collect()
}

fn end_leftover(folder: &Path) {
    let text = fs::read_to_string(folder.join(STATE)).unwrap_or_default();
    let Ok(state) = serde_json::from_str::<State>(&text) else { return };
    let Some(pid) = Pid::from_raw(state.pid).filter(|_| state.pid > 1) else { return };
    if started(state.pid).as_ref() == Some(&state.started) {
        tracing::warn!(pid = state.pid, "killing an FFmpeg of an earlier start");
        let _ = rustix::process::kill_process_group(pid, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;

    use serde_json::json;

    use super::*;

    struct Place(PathBuf);

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn shelf() -> (Place, Shelf) {
        let root = std::env::temp_dir().join(format!("ironcast-shelf-{}", Uuid::new_v4()));
        (Place(root.clone()), Shelf::new(root))
    }

    #[test]
    fn no_room_is_outside_of_the_folder() {
        let (place, shelf) = shelf();
        for id in ["..", ".", "a", "a:b"] {
            let folder = shelf.of_room(&Id::new(id).unwrap());
            assert_eq!(folder.parent(), Some(place.0.join("hls").as_path()));
            assert!(!folder.ends_with(".."));
        }
    }

    #[test]
    fn what_a_killed_service_left_is_ended() {
        let (_place, shelf) = shelf();
        let folder = shelf.of_room(&Id::new("r").unwrap());
        Shelf::clear(&folder).unwrap();
        fs::write(folder.join(LIVE), "#EXTM3U\n").unwrap();
        let mut child =
            std::process::Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let state = State {
            pid,
            started: started(pid).unwrap(),
            transport_id: "t".to_owned(),
            ports: vec![1],
        };
        // A number that somebody else has by now is left alone.
        let me = i32::try_from(std::process::id()).unwrap();
        Shelf::note(&folder, &State { pid: me, ..state.clone() }).unwrap();
        shelf.tidy();
        Shelf::note(&folder, &state).unwrap();
        shelf.tidy();
        assert!(!child.wait().unwrap().success(), "it was killed");
        assert!(fs::read_to_string(folder.join(LIVE)).unwrap().ends_with("#EXT-X-ENDLIST\n"));
        assert!(!folder.join(STATE).exists());
    }

    #[test]
    fn recordings_of_a_room_are_listed_and_old_ones_go() {
        let (_place, shelf) = shelf();
        for (room, started) in [("r", 1), ("r", 2), ("other", 3)] {
            let folder = shelf.of_recording(&Uuid::new_v4());
            Shelf::clear(&folder).unwrap();
            let about = json!({ "roomId": room, "startedAt": started, "speaking": [1] });
            write(&folder.join(ABOUT), &about.to_string()).unwrap();
        }
        let listed = shelf.recordings(&Id::new("r").unwrap());
        let times: Vec<_> = listed.iter().map(|about| about["startedAt"].clone()).collect();
        assert_eq!(times, [json!(2), json!(1)]);
        assert!(listed[0].get("speaking").is_none());
        let folder = shelf.of_recording(&Uuid::new_v4());
        Shelf::clear(&folder).unwrap();
        fs::write(folder.join("part-0.mp4"), "x").unwrap();
        let about = json!({ "roomId": "cut", "state": "recording" });
        write(&folder.join(ABOUT), &about.to_string()).unwrap();
        shelf.tidy();
        let cut = &shelf.recordings(&Id::new("cut").unwrap())[0];
        assert_eq!(cut["state"], "interrupted");
        assert!(cut["parts"][0].as_str().unwrap().ends_with("/part-0.mp4"));
        assert!(shelf.bytes() > 60);
        shelf.expire(Duration::from_secs(60));
        assert_eq!(shelf.recordings(&Id::new("r").unwrap()).len(), 2);
        shelf.expire(Duration::ZERO);
        assert_eq!(shelf.bytes(), 0);
    }
}
