//! Writes the corpus: `cargo run -p ironcast-fuzz`. To be run again, and its files committed, when
//! a target or a format that it knows has changed.
#![forbid(unsafe_code)]

use std::{fs, io};

fn main() -> io::Result<()> {
    let directory = ironcast_fuzz::corpus::directory();
    for input in ironcast_fuzz::corpus::all() {
        let path = directory.join(input.path());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, input.bytes)?;
    }
    Ok(())
}
