//! `ironcast reload`: has the running control plane read its configuration and the files that it names
//! again, and says what is different now, or why nothing is.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use ironcast_api::{ChangedSetting, Reloaded};
use ironcast_client::{Client, Token, Trust};

use crate::Choice;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    choice: Choice,
    /// Address of the control API [default: as configured]
    #[arg(long, value_name = "https://HOST:PORT")]
    url: Option<String>,
    /// Certificate to trust there, PEM [default: as configured]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File with an admin's token [default: control.token_file, its first token]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// An admin's client certificate to show, PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = arguments.choice.load()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reloaded = runtime.block_on(async {
        let url = arguments.url.unwrap_or_else(|| config.control_url());
        let ca = arguments.ca.unwrap_or_else(|| config.control_ca());
        let mut builder = Client::builder(url).trust(Trust::File(ca));
        if let Some((cert, key)) = arguments.cert.zip(arguments.key) {
            builder = builder.identity(cert, key);
        } else if let Some(file) =
            arguments.token_file.or_else(|| config.control.token_file.clone())
        {
            builder = builder.token(Token::File(file));
        }
        anyhow::Ok(builder.build()?.reload().await?)
    })?;
    print!("{}", describe(&reloaded));
    Ok(ExitCode::SUCCESS)
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
