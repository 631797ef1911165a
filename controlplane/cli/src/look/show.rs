//! `ironcast show`: one thing with what hangs below it.

use clap::Args;
use ironcast_api::{
    ConsumerInfo, Id, ProducerInfo, RouterDetails, RtpCodecParameters, TransportInfo, WorkerInfo,
};
use serde_json::{Value, json};

use super::{
    ls::{layers, rows},
    table::{age, bits, or_dash, pairs, percent, print_json, short, word},
    things::{Found, Kind, Which, read},
};
use crate::remote::{EXIT_CODES, Failure, Reach, Remote};

/// Rows of one table below a thing.
const BELOW_MAX: usize = 40;

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Print JSON: the thing as the control API has it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let remote = arguments.reach.connect()?;
    let found = arguments.which.find(&remote).await?;
    if arguments.json {
        print_json(&found.value);
        return Ok(());
    }
    match arguments.which.kind {
        Kind::Workers => show_worker(&read(&found.value)?),
        Kind::Routers => show_router(&remote, &read(&found.value)?).await?,
        Kind::Transports => show_transport(&remote, &read(&found.value)?).await?,
        Kind::Participants => show_participant(&remote, &found).await?,
        Kind::Producers => show_producer(&remote, &read(&found.value)?).await?,
        Kind::Consumers => show_consumer(&read(&found.value)?),
    }
    Ok(())
}

fn show_worker(one: &WorkerInfo) {
    let delay = one.forwarding_delay_us;
    println!(
        "{}",
        pairs([
            ("worker", one.id.to_string()),
            ("core", or_dash(one.core)),
            ("status", word(one.status)),
            ("ports", format!("{}-{}", one.ports.min, one.ports.max)),
            ("busy", percent(one.cpu_busy)),
            ("load", percent(one.load)),
            ("routers", one.routers.to_string()),
            ("transports", one.transports.to_string()),
            ("producers", one.producers.to_string()),
            ("consumers", one.consumers.to_string()),
            (
                "sends",
                format!(
                    "{} packets/s, {}",
                    short(one.packets_out_per_second),
                    bits(one.bitrate_out_bps)
                )
            ),
            ("delay", format!("{} us p50, {} us p99", delay.p50.round(), delay.p99.round())),
        ])
    );
}

async fn show_router(remote: &Remote, one: &RouterDetails) -> Result<(), Failure> {
    let codecs: Vec<_> = one.router.media_codecs.iter().map(|one| one.mime_type.as_str()).collect();
    println!(
        "{}\n",
        pairs([
            ("router", one.router.id.to_string()),
            ("worker", one.router.worker_id.to_string()),
            ("age", age(one.router.created_at)),
            ("codecs", codecs.join(", ")),
            ("transports", one.transports.len().to_string()),
            ("producers", one.producers.len().to_string()),
            ("consumers", one.consumers.len().to_string()),
            ("appData", app_data(&one.router.app_data)),
        ])
    );
    let id = Some(&one.router.id);
    for kind in [Kind::Participants, Kind::Transports, Kind::Producers] {
        let listed = remote.list(kind, id, usize::MAX).await?;
        below(kind, &listed.items)?;
    }
    Ok(())
}

async fn show_transport(remote: &Remote, one: &TransportInfo) -> Result<(), Failure> {
    let tuple = one.tuple().map(|tuple| {
        let remote =
            format!("{}:{}", or_dash(tuple.remote_ip.as_ref()), or_dash(tuple.remote_port));
        format!("{remote} over {}", word(tuple.protocol))
    });
    let limit = |bps: Option<u32>| bps.map(|bps| bits(bps.into())).unwrap_or_default();
    println!(
        "{}\n",
        pairs([
            ("transport", one.id.to_string()),
            ("router", one.router_id.to_string()),
            ("participant", or_dash(one.participant_id.as_ref())),
            ("type", word(one.kind())),
            ("age", age(one.created_at)),
            ("ICE", one.webrtc().map(|link| word(link.ice_state)).unwrap_or_default()),
            ("peer", or_dash(tuple)),
            ("DTLS", one.webrtc().map(|link| word(link.dtls_state)).unwrap_or_default()),
            ("receives at most", limit(one.max_incoming_bitrate)),
            ("sends at most", limit(one.max_outgoing_bitrate)),
            ("sends at least", limit(one.min_outgoing_bitrate)),
            ("appData", app_data(&one.app_data)),
        ])
    );
    tracks(remote, &one.router_id, std::slice::from_ref(&one.id)).await
}

async fn show_participant(remote: &Remote, found: &Found) -> Result<(), Failure> {
    let transports: Vec<TransportInfo> = read(&found.value["transports"])?;
    let Some(first) = transports.first() else { return Ok(()) };
    println!(
        "{}\n",
        pairs([
            ("participant", found.id.to_string()),
            ("router", first.router_id.to_string()),
            ("age", age(transports.iter().map(|one| one.created_at).min().unwrap_or_default())),
        ])
    );
    if let Value::Array(items) = &found.value["transports"] {
        below(Kind::Transports, items)?;
    }
    let ids: Vec<Id> = transports.iter().map(|one| one.id.clone()).collect();
    tracks(remote, &first.router_id, &ids).await
}

async fn show_producer(remote: &Remote, one: &ProducerInfo) -> Result<(), Failure> {
    let scores: Vec<_> = one.score.iter().map(|one| one.score.to_string()).collect();
    println!(
        "{}\n",
        pairs([
            ("producer", one.id.to_string()),
            ("router", one.router_id.to_string()),
            ("transport", one.transport_id.to_string()),
            ("participant", or_dash(one.participant_id.as_ref())),
            ("kind", word(one.kind)),
            ("type", word(one.producer_type)),
            ("codecs", codecs(&one.rtp_parameters.codecs)),
            ("encodings", one.rtp_parameters.encodings.len().to_string()),
            ("state", if one.paused { "paused" } else { "sends" }.to_owned()),
            ("score", or_dash(Some(scores.join(",")).filter(|text| !text.is_empty()))),
            ("age", age(one.created_at)),
            ("appData", app_data(&one.app_data)),
        ])
    );
    let consumers = remote.list(Kind::Consumers, Some(&one.router_id), usize::MAX).await?;
    let is_its = |item: &&Value| item["producerId"].as_str() == Some(one.id.as_str());
    below(Kind::Consumers, &consumers.items.iter().filter(is_its).cloned().collect::<Vec<_>>())
}

fn show_consumer(one: &ConsumerInfo) {
    println!(
        "{}",
        pairs([
            ("consumer", one.id.to_string()),
            ("router", one.router_id.to_string()),
            ("transport", one.transport_id.to_string()),
            ("participant", or_dash(one.participant_id.as_ref())),
            ("producer", one.producer_id.to_string()),
            ("kind", word(one.kind)),
            ("type", word(one.consumer_type)),
            ("codecs", codecs(&one.rtp_parameters.codecs)),
            ("paused", one.paused.to_string()),
            ("producer paused", one.producer_paused.to_string()),
            ("layers", layers(one)),
            ("priority", one.priority.to_string()),
            ("score", format!("{}, producer {}", one.score.score, one.score.producer_score)),
            ("age", age(one.created_at)),
            ("appData", app_data(&one.app_data)),
        ])
    );
}

/// Producers and consumers on these transports of one router.
async fn tracks(remote: &Remote, router: &Id, transports: &[Id]) -> Result<(), Failure> {
    for kind in [Kind::Producers, Kind::Consumers] {
        let listed = remote.list(kind, Some(router), usize::MAX).await?;
        let is_here = |item: &&Value| {
            let of = item["transportId"].as_str();
            transports.iter().any(|id| of == Some(id.as_str()))
        };
        below(kind, &listed.items.iter().filter(is_here).cloned().collect::<Vec<_>>())?;
    }
    Ok(())
}

/// A table of what hangs below, if anything does.
fn below(kind: Kind, items: &[Value]) -> Result<(), Failure> {
    if items.is_empty() {
        return Ok(());
    }
    println!("{}", rows(kind, &items[..items.len().min(BELOW_MAX)])?);
    if items.len() > BELOW_MAX {
        let more = items.len() - BELOW_MAX;
        println!("... and {more} more: ironcast ls {}", kind.plural());
    }
    println!();
    Ok(())
}

fn codecs(codecs: &[RtpCodecParameters]) -> String {
    let names: Vec<_> = codecs.iter().map(|one| one.mime_type.as_str()).collect();
    names.join(", ")
}

fn app_data(data: &ironcast_api::AppData) -> String {
    match json!(data) {
        Value::Object(map) if map.is_empty() => String::new(),
        value => value.to_string(),
    }
}
