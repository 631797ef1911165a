//! Errors of the configuration: where, what, and what would be right. Made while loading, shown by
//! every binary as they are. Holds no logic of its own.

use std::{fmt, path::PathBuf};

/// Where a value came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// Nobody set it.
    #[default]
    Default,
    /// A line of the file.
    File {
        /// The file as it was named.
        file: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Of the offending text in its line, counted from 1 in characters.
        column: usize,
        /// Characters of the offending text within its line.
        width: usize,
        /// The line's text.
        text: String,
    },
    /// The file as a whole.
    WholeFile {
        /// The file as it was named.
        file: PathBuf,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A `--set` flag.
    Flag {
        /// As given.
        text: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File { file, line, .. } => write!(f, "{}:{line}", file.display()),
            Self::WholeFile { file } => write!(f, "{}", file.display()),
            Self::Environment { name, value } => write!(f, "environment {name}={value}"),
            Self::Flag { text } => write!(f, "flag {text}"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub place: Place,
    /// What is wrong, with the offending text.
    pub what: String,
    /// What would be right.
    pub help: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.place, self.what)?;
        if let Place::File { line, column, width, text, .. } = &self.place {
            let number = line.to_string();
            let gap = " ".repeat(number.len());
            writeln!(f, "  {gap} |\n  {number} | {text}")?;
            let indent = " ".repeat(column.saturating_sub(1));
            writeln!(f, "  {gap} | {indent}{}", "^".repeat((*width).max(1)))?;
        }
        write!(f, "  {}", self.help.replace('\n', "\n  "))
    }
}

/// All problems of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// At least one, in the order in which they were read.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(crate) fn one(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
