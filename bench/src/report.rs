//! `ironcast-bench report`: one page from the newest results, and the plots as files of their own.
//! Reads what the scenarios left, measures nothing.

mod page;
mod plot;
mod results;
mod scale;
mod sections;
mod singles;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

/// Width of a plot's own file.
const FILE_WIDTH: f64 = 760.0;

/// Options of `report`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The page.
    #[arg(long, default_value = "report.html")]
    out: PathBuf,
    /// Also writes every plot as a file into this folder.
    #[arg(long)]
    plots: Option<PathBuf>,
}

/// Writes it.
pub(crate) fn run(options: &Options, folder: &Path) -> Result<()> {
    let (runs, unreadable) = results::newest(folder)?;
    ensure!(!runs.is_empty(), "no results in {}: run a scenario first", folder.display());
    let sections = sections::of(&runs);
    let page = page::html(&runs, &sections, &unreadable);
    fs::write(&options.out, page).with_context(|| options.out.display().to_string())?;
    println!("{}: {} runs, {} plots", options.out.display(), runs.len(), sections.len());
    if let Some(folder) = &options.plots {
        fs::create_dir_all(folder)?;
        for section in &sections {
            let path = folder.join(format!("{}.svg", section.name));
            fs::write(&path, section.plot.file(FILE_WIDTH))?;
            println!("{}", path.display());
        }
    }
    Ok(())
}
