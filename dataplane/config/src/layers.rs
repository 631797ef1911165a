//! How values get into a [`Config`]: the file, the environment and the flags, one over the other.
//! Called by `Config::load` only. Goes on after a problem, so that all are reported at once.

use std::{collections::BTreeMap, fs, ops::Range, path::Path};

use toml::de::{DeTable, DeValue};

use crate::{
    Config, ConfigError, Place, PortRange, Problem, check, sections::Section, suggest::nearest,
    value::Raw,
};

/// Other names of the environment that are understood, and what they set.
const ALIASES: [(&str, &str); 2] = [
    ("IRONCAST_STATE_DIR", "control.state_dir"),
    ("MEDIASOUP_ANNOUNCED_IP", "rtc.announced_address"),
];

const PREFIX: &str = "IRONCAST_";

#[derive(Debug, Default)]
pub(crate) struct Loading {
    config: Config,
    problems: Vec<Problem>,
}

impl Loading {
    pub(crate) fn read_file(&mut self, file: &Path) {
        match fs::read_to_string(file) {
            Ok(text) => self.read_text(file, &text),
            Err(error) => self.problems.push(Problem {
                place: Place::WholeFile { file: file.into() },
                what: format!("the file cannot be read: {error}"),
                help:
                    "name another with --config, or start without one: all values have defaults\n\
                       (`ironcast config > ironcast.toml` writes one)"
                        .into(),
            }),
        }
    }

    pub(crate) fn read_text(&mut self, file: &Path, text: &str) {
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let span = error.span().unwrap_or(0..0);
                return self.problems.push(Problem {
                    place: in_file(file, text, span),
                    what: format!("this is not TOML: {}", error.message().trim()),
                    help: "a line is a [section], a key = value, or a # comment; texts are in \
                           \"quotes\""
                        .into(),
                });
            }
        };
        for (name, section) in table.get_ref() {
            let place = in_file(file, text, name.span());
            let DeValue::Table(keys) = section.get_ref() else {
                let help = self.help_for_stray_key(name.get_ref());
                let what = format!("`{}` stands outside a section", name.get_ref());
                self.problems.push(Problem { place, what, help });
                continue;
            };
            if self.config.section_mut(name.get_ref()).is_none() {
                let what = format!("there is no section [{}]", name.get_ref());
                let help = self.help_for_section(name.get_ref());
                self.problems.push(Problem { place, what, help });
                continue;
            }
            for (key, value) in keys {
                let known = self.knows(name.get_ref(), key.get_ref());
                let span = if known { value.span() } else { key.span() };
                let shown = &text[value.span()];
                let place = in_file(file, text, span);
                self.set(name.get_ref(), key.get_ref(), Raw::Toml(value.get_ref()), shown, place);
            }
        }
    }

    pub(crate) fn read_environment(&mut self, environment: &BTreeMap<String, String>) {
        self.read_port_aliases(environment);
        for (alias, key) in ALIASES {
            if let Some(value) = environment.get(alias) {
                let (section, key) = key.split_once('.').unwrap_or((key, ""));
                self.set(section, key, Raw::Word(value), value, in_environment(alias, value));
            }
        }
        for (name, value) in environment {
            let Some(rest) = name.strip_prefix(PREFIX).map(str::to_lowercase) else { continue };
            if ALIASES.iter().any(|(alias, _)| alias == name) {
                continue;
            }
            // Only what begins like a section is ours to judge: others may use the prefix too.
            let Some((section, key)) = rest.split_once('_') else { continue };
            if self.config.section_mut(section).is_some() {
                self.set(section, key, Raw::Word(value), value, in_environment(name, value));
            }
        }
    }

    /// The range has one key here and two names there: each end is set by itself.
    fn read_port_aliases(&mut self, environment: &BTreeMap<String, String>) {
        let mut ports = self.config.rtc.ports;
        let mut place = None;
        for (alias, is_first) in
            [("MEDIASOUP_RTC_MIN_PORT", true), ("MEDIASOUP_RTC_MAX_PORT", false)]
        {
            let Some(value) = environment.get(alias) else { continue };
            match value.parse::<u16>() {
                Ok(port) if port > 0 => {
                    if is_first {
                        ports.first = port
                    } else {
                        ports.last = port
                    }
                    place = Some(in_environment(alias, value));
                }
                _ => self.problems.push(Problem {
                    place: in_environment(alias, value),
                    what: format!("`{value}` is not a UDP port"),
                    help: "expected a number from 1 to 65535, such as 40000".into(),
                }),
            }
        }
        let Some(place) = place else { return };
        let PortRange { first, last } = ports;
        if first > last {
            let what = format!("the ports would be {first}-{last}");
            let help = "the first port comes first: set MEDIASOUP_RTC_MIN_PORT and \
                        MEDIASOUP_RTC_MAX_PORT, or rtc.ports = \"40000-49999\""
                .into();
            return self.problems.push(Problem { place, what, help });
        }
        self.config.rtc.ports = ports;
        self.config.places.insert("rtc.ports".into(), place);
    }

    pub(crate) fn read_overrides(&mut self, overrides: &[(String, String)]) {
        for (name, value) in overrides {
            let place = Place::Flag { text: format!("--set {name}={value}") };
            let Some((section, key)) = name.split_once('.') else {
                let what = format!("`{name}` names no section");
                let help = self.help_for_stray_key(name);
                self.problems.push(Problem { place, what, help });
                continue;
            };
            if self.config.section_mut(section).is_none() {
                let what = format!("there is no section `{section}`");
                let help = self.help_for_section(section);
                self.problems.push(Problem { place, what, help });
                continue;
            }
            self.set(section, key, Raw::Word(value), value, place);
        }
    }

    pub(crate) fn finish(mut self) -> Result<Config, ConfigError> {
        if self.problems.is_empty() {
            self.problems = check::whole(&self.config);
        }
        if self.problems.is_empty() {
            return Ok(self.config);
        }
        Err(ConfigError { problems: self.problems })
    }

    fn set(&mut self, section: &str, key: &str, raw: Raw<'_>, shown: &str, place: Place) {
        if !self.knows(section, key) {
            let what = format!("there is no `{key}` in [{section}]");
            let help = self.help_for_key(section, key);
            return self.problems.push(Problem { place, what, help });
        }
        let Some(values) = self.config.section_mut(section) else { return };
        match values.set(key, raw) {
            Ok(()) => {
                self.config.places.insert(format!("{section}.{key}"), place);
            }
            Err(expected) => self.problems.push(Problem {
                place,
                what: format!("{section}.{key} cannot be {}", shortened(shown)),
                help: expected.0,
            }),
        }
    }

    fn knows(&mut self, section: &str, key: &str) -> bool {
        let section = self.config.section_mut(section);
        section.is_some_and(|section| section.keys().iter().any(|known| known.name == key))
    }

    fn help_for_section(&self, name: &str) -> String {
        let names: Vec<&str> =
            self.config.sections().iter().map(|section| section.name()).collect();
        let all = format!("the sections are {}", names.join(", "));
        match nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean [{near}]? {all}"),
            None => all,
        }
    }

    fn help_for_key(&self, section: &str, key: &str) -> String {
        let sections = self.config.sections();
        let here = sections.iter().find(|known| known.name() == section);
        let names: Vec<&str> =
            here.map(|here| here.keys().iter().map(|key| key.name).collect()).unwrap_or_default();
        if let Some(near) = nearest(key, names.iter().copied()) {
            return format!("did you mean `{near}`?");
        }
        match home_of(&sections, key) {
            Some(home) => format!("`{key}` belongs to [{home}]"),
            None => format!("[{section}] has {}", names.join(", ")),
        }
    }

    fn help_for_stray_key(&self, key: &str) -> String {
        let sections = self.config.sections();
        match home_of(&sections, key) {
            Some(home) => format!("it belongs to [{home}]: {home}.{key}"),
            None => self.help_for_section(key),
        }
    }
}

fn home_of(sections: &[&dyn Section], key: &str) -> Option<&'static str> {
    let mut homes = sections.iter().filter(|known| known.keys().iter().any(|k| k.name == key));
    homes.next().map(|section| section.name())
}

/// A value as it is quoted in a message: never a whole page.
fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if text.is_empty() {
        return "empty".into();
    }
    if line.chars().count() <= 60 && line.len() == text.len() {
        return line.to_owned();
    }
    format!("{}...", line.chars().take(57).collect::<String>())
}

fn in_environment(name: &str, value: &str) -> Place {
    Place::Environment { name: name.into(), value: shortened(value) }
}

fn in_file(file: &Path, text: &str, span: Range<usize>) -> Place {
    let start = span.start.min(text.len());
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let end = span.end.clamp(start, line_end);
    Place::File {
        file: file.into(),
        line: text[..line_start].matches('\n').count() + 1,
        column: text[line_start..start].chars().count() + 1,
        width: text[start..end].chars().count(),
        text: text[line_start..line_end].trim_end().into(),
    }
}
