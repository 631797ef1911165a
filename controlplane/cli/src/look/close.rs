//! `ironcast close`: ends things, after it has said what they are.

use std::io::{IsTerminal as _, Write as _};

use clap::Args;
use serde_json::Value;

use super::{
    table::print_json,
    things::{Found, Kind},
};
use crate::remote::{EXIT_CODES, Failure, Reach};

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// What kind of things
    #[arg(value_enum)]
    kind: Kind,
    /// Their ids. The beginning of an id is enough, and then it asks, or wants --yes
    #[arg(required = true)]
    ids: Vec<String>,
    /// The router, where a participant is in several
    #[arg(long, short, value_name = "ID")]
    router: Option<String>,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let kind = arguments.kind;
    if kind == Kind::Workers {
        let what = "a worker cannot be closed; `ironcast drain` takes the host out of service";
        return Err(Failure::Other(anyhow::anyhow!(what)));
    }
    let remote = arguments.reach.connect()?;
    let router = remote.find_router(arguments.router.as_deref()).await?;
    // All are found before one is closed.
    let mut all = Vec::new();
    for text in &arguments.ids {
        all.push(remote.find(kind, text, router.as_ref()).await?);
    }
    for found in &all {
        let what = describe(kind, found);
        if !found.is_exact && !arguments.yes && !agrees(&what)? {
            return Err(Failure::NotFound(format!(
                "not closed: {what}; give its whole id, or --yes"
            )));
        }
        if kind == Kind::Participants {
            let router = found.value["routerId"].as_str().unwrap_or_default();
            let path = format!("/participants/{}/leave?routerId={router}", found.id);
            remote.call("POST", &path).await?;
        } else {
            remote.call("DELETE", &format!("/{}/{}", kind.plural(), found.id)).await?;
        }
        if !arguments.json {
            println!("closed {what}");
        }
    }
    if arguments.json {
        let ids: Vec<_> = all.iter().map(|found| &found.id).collect();
        print_json(&serde_json::json!({ "closed": ids }));
    }
    Ok(())
}

/// `router room-7 (4 transports, 2 producers, 2 consumers)`.
fn describe(kind: Kind, found: &Found) -> String {
    let count = |name: &str| match &found.value[name] {
        Value::Array(items) => Some(format!("{} {name}", items.len())),
        _ => None,
    };
    let below: Vec<_> =
        ["transports", "producers", "consumers"].into_iter().filter_map(count).collect();
    let name = format!("{} {}", kind.singular(), found.id);
    if below.is_empty() { name } else { format!("{name} ({})", below.join(", ")) }
}

/// Asks on a terminal; nobody there does not agree.
fn agrees(what: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    print!("close {what}? [y/N] ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
