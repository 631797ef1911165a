//! Asking the running control plane: where it is and what it is shown comes from the configuration
//! file, flags go over it. Owns the errors of all commands that ask, and their exit codes.

use std::{fmt, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use ironcast_api::ErrorCode;
use ironcast_client::{Client, ClientError, Token, Trust};
use ironcast_config::Config;

use crate::Choice;

/// Shown by `--help` of every command that asks.
pub(crate) const EXIT_CODES: &str = "Exit codes: 0 done, 1 refused or failed, 2 wrong arguments, \
    3 not found or not unique, 4 the control plane or its dataplane cannot be reached, 5 not allowed";

/// Longest time for one call.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How the control plane is reached.
#[derive(Args, Debug, Clone)]
pub(crate) struct Reach {
    #[command(flatten)]
    pub(crate) choice: Choice,
    /// Address of the control API [default: as configured]
    #[arg(long, value_name = "https://HOST:PORT")]
    url: Option<String>,
    /// Certificate to trust there, PEM [default: as configured]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File with the token to show [default: an admin's of control.token_file]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Client certificate to show, PEM [default: as configured]
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
}

/// The control plane, and what it is called in messages.
pub(crate) struct Remote {
    pub(crate) client: Client,
    pub(crate) url: String,
}

impl Reach {
    /// Needs a runtime around it.
    pub(crate) fn connect(&self) -> Result<Remote, Failure> {
        let config = self.choice.load().map_err(Failure::Other)?;
        let url = self.url.clone().unwrap_or_else(|| config.control_url());
        let ca = self.ca.clone().unwrap_or_else(|| config.control_ca());
        let mut builder = Client::builder(&url).trust(Trust::File(ca)).timeout(TIMEOUT);
        if let Some(token) = self.token_file.clone().map(Token::File).or_else(|| token(&config)) {
            builder = builder.token(token);
        }
        let configured = (&config.signaling.control_cert, &config.signaling.control_key);
        let identity = self.cert.clone().zip(self.key.clone());
        if let Some((cert, key)) =
            identity.or_else(|| configured.0.clone().zip(configured.1.clone()))
        {
            builder = builder.identity(cert, key);
        }
        let client = builder.build().map_err(|error| Failure::Client(error, url.clone()))?;
        Ok(Remote { client, url })
    }
}

/// An admin's token of those that are taken here, where whoever asks may read them; else the signaling
/// service's, which sees its own rooms only.
fn token(config: &Config) -> Option<Token> {
    let file = config.control.token_file.as_ref();
    let text = file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default();
    let of_signaling = || config.signaling.control_token_file.clone().map(Token::File);
    admin_token(&text).map(Token::Text).or_else(of_signaling)
}

/// The first token that may do everything. A line is a token, or its name, its scopes and the token;
/// of some only a hash is there.
fn admin_token(text: &str) -> Option<String> {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let token = match words.as_slice() {
            [token] => token,
            [_, scopes, token] if scopes.split(',').any(|scope| scope == "admin") => token,
            _ => return None,
        };
        (!token.starts_with("sha256:")).then(|| (*token).to_owned())
    })
}

impl Remote {
    /// Names the server in what went wrong.
    pub(crate) fn failure(&self, error: ClientError) -> Failure {
        Failure::Client(error, self.url.clone())
    }
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The control plane said no, or could not be asked.
    Client(ClientError, String),
    /// There is no such thing, or there are several; in words.
    NotFound(String),
    /// Anything else.
    Other(anyhow::Error),
}

impl Failure {
    fn exit_code(&self) -> u8 {
        let code = match self {
            Self::Client(error, _) => error.code(),
            Self::NotFound(_) => return 3,
            Self::Other(_) => return 1,
        };
        match (self, code) {
            (_, Some(ErrorCode::NotFound)) => 3,
            (_, Some(ErrorCode::DataplaneUnavailable | ErrorCode::Timeout)) => 4,
            (_, Some(ErrorCode::Unauthenticated | ErrorCode::Forbidden)) => 5,
            (Self::Client(ClientError::Unreachable(_) | ClientError::Timeout(_), _), None) => 4,
            _ => 1,
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Client(error, _) => match (error, error.code()) {
                (ClientError::Unreachable(_) | ClientError::Timeout(_), _) => Some(
                    "Does it run? `ironcast doctor` says whether its port is taken. Another host: --url",
                ),
                (ClientError::Settings(_), _) => {
                    Some("--config names another configuration file, --ca another certificate")
                }
                (_, Some(ErrorCode::Unauthenticated)) => {
                    Some("--token-file, or --cert and --key, say who you are")
                }
                (_, Some(ErrorCode::DataplaneUnavailable)) => {
                    Some("The control plane runs, its dataplane does not: see the dataplane's log")
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Says it on standard error; gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        eprintln!("ironcast: {self}");
        if let Some(advice) = self.advice() {
            eprintln!("  {advice}");
        }
        ExitCode::from(self.exit_code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(ClientError::Problem(problem), _) => write!(f, "{}", problem.detail),
            Self::Client(error, url) => write!(f, "{error} ({url})"),
            Self::NotFound(text) => f.write_str(text),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

/// Runs what asks; what went wrong is said, and its exit code given.
pub(crate) fn ask<F: Future<Output = Result<(), Failure>>>(task: F) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    })
}

#[cfg(test)]
mod tests {
    use ironcast_api::Problem;

    use super::*;

    #[test]
    fn an_admins_token_is_found_among_others() {
        let text =
            "# ours\n\nsig control s1\nops sha256 x y z\nops read,admin t2\nother admin t3\n";
        assert_eq!(admin_token(text).as_deref(), Some("t2"));
        assert_eq!(admin_token("alone\n").as_deref(), Some("alone"));
        assert_eq!(admin_token("ops admin sha256:00\nsig control s1\n"), None);
    }

    #[test]
    fn exit_codes_say_what_kind_of_failure_it_was() {
        let problem = |code| ClientError::Problem(Box::new(Problem::new(code, "x")));
        let code = |error| Failure::Client(error, String::new()).exit_code();
        assert_eq!(code(problem(ErrorCode::NotFound)), 3);
        assert_eq!(code(problem(ErrorCode::Unauthenticated)), 5);
        assert_eq!(code(problem(ErrorCode::DataplaneUnavailable)), 4);
        assert_eq!(code(problem(ErrorCode::WrongState)), 1);
        assert_eq!(code(ClientError::Unreachable("x".into())), 4);
        assert_eq!(Failure::NotFound("x".into()).exit_code(), 3);
    }
}
