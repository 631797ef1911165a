//! `ironcast reload`: has the running control plane read its configuration and the files that it names
//! again, and says what is different now, or why nothing is.

use clap::Args;
use ironcast_api::{ChangedSetting, Reloaded};

use crate::remote::{EXIT_CODES, Failure, Reach};

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let remote = arguments.reach.connect()?;
    let reloaded = remote.client.reload().await.map_err(|error| remote.failure(error))?;
    print!("{}", describe(&reloaded));
    Ok(())
}

fn describe(reloaded: &Reloaded) -> String {
    let mut text = String::new();
    for one in &reloaded.changed {
        text.push_str(&format!("  changed        {}\n", line(one)));
    }
    for one in &reloaded.needs_restart {
        text.push_str(&format!("  needs restart  {}\n", line(one)));
    }
    if text.is_empty() {
        text.push_str("Nothing is different.\n");
    }
    text
}

fn line(one: &ChangedSetting) -> String {
    let shown = |value: &Option<String>| value.as_deref().unwrap_or("not set").to_owned();
    match (&one.from, &one.to) {
        (None, None) => format!("{} (what is in the file)", one.setting),
        (from, to) => format!("{}: {} -> {}", one.setting, shown(from), shown(to)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_a_line() {
        assert_eq!(describe(&Reloaded::default()), "Nothing is different.\n");
        let setting = |setting: &str, from: Option<&str>, to: Option<&str>| ChangedSetting {
            setting: setting.into(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let reloaded = Reloaded {
            changed: vec![
                setting("limits.routers_max", Some("10000"), Some("50")),
                setting("control.client_ca", None, Some("\"ca.pem\"")),
                setting("control.token_file", None, None),
            ],
            needs_restart: vec![setting("control.quic", Some("true"), Some("false"))],
        };
        let expected = "  changed        limits.routers_max: 10000 -> 50\n  \
                        changed        control.client_ca: not set -> \"ca.pem\"\n  \
                        changed        control.token_file (what is in the file)\n  \
                        needs restart  control.quic: true -> false\n";
        assert_eq!(describe(&reloaded), expected);
    }
}
