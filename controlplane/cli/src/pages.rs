//! `ironcast pages`: the man pages and shell completions of the four programs, from the same
//! descriptions that their arguments are read by. Used when a package is made.

use std::{fs, path::Path};

use anyhow::Context;
use clap::CommandFactory as _;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;

use crate::Arguments;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes `man/*.1`, `man/*.8` and `completions/*` into a folder.
pub(crate) fn write(folder: &Path) -> anyhow::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let daemons = ironcast_config::DAEMONS.iter().map(|daemon| (daemon.command(), "8"));
    let operator = [(Arguments::command(), "1")];
    for (mut command, section) in operator.into_iter().chain(daemons) {
        let name = command.get_name().to_owned();
        for shell in SHELLS {
            generate_to(shell, &mut command, &name, &completions)?;
        }
        write_man(command, section, &man)?;
    }
    Ok(())
}

/// A page of the program and one of each subcommand.
fn write_man(mut command: clap::Command, section: &str, folder: &Path) -> anyhow::Result<()> {
    command.build();
    let mut all = vec![command];
    while let Some(command) = all.pop() {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
        let visible = command.get_subcommands().filter(|one| !one.is_hide_set());
        all.extend(visible.filter(|one| one.get_name() != "help").cloned());
        let path = folder.join(format!("{name}.{section}"));
        let mut page = Vec::new();
        // Without the day on which it was made: the same page each time.
        let man = Man::new(command).section(section).source("Ironcast").manual("Ironcast");
        man.render(&mut page)?;
        fs::write(&path, page).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_and_subcommand_has_a_page_and_every_program_completions() {
        let folder = std::env::temp_dir().join(format!("ironcast-pages-{}", std::process::id()));
        write(&folder).unwrap();
        let page = |name: &str| fs::read_to_string(folder.join("man").join(name)).unwrap();
        for name in ["ironcast.1", "ironcast-doctor.1", "ironcast-up.1", "ironcast-config.1"] {
            assert!(page(name).contains(".TH "), "{name}");
        }
        assert!(!folder.join("man/ironcast-child.1").exists(), "hidden");
        for daemon in ironcast_config::DAEMONS {
            let page = page(&format!("{}.8", daemon.name));
            assert!(page.contains("SECTION.KEY=VALUE"), "{page}");
            for file in [format!("{}.bash", daemon.name), format!("_{}", daemon.name)] {
                let path = folder.join("completions").join(file);
                assert!(fs::read_to_string(&path).unwrap().contains("config"), "{path:?}");
            }
        }
        fs::remove_dir_all(&folder).unwrap();
    }
}
