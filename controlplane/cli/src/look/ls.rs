//! `ironcast ls`: what there is, as tables.

use clap::Args;
use ironcast_api::{
    ConsumerInfo, Health, Id, ProducerInfo, RouterListItem, TransportInfo, TransportTuple,
    WorkerInfo,
};
use serde_json::Value;

use super::{
    table::{age, bits, duration, or_dash, percent, print_json, short, table, word},
    things::{Kind, Listed, read},
};
use crate::remote::{EXIT_CODES, Failure, Reach, Remote};

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    /// What to list; without it, the host with its workers and routers
    #[arg(value_enum)]
    kind: Option<Kind>,
    /// Only what belongs to this router
    #[arg(long, short, value_name = "ID")]
    router: Option<String>,
    /// How many at most
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 100)]
    limit: usize,
    /// All of them, however many there are
    #[arg(long, short, conflicts_with = "limit")]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let remote = arguments.reach.connect()?;
    let limit = if arguments.all { usize::MAX } else { arguments.limit.max(1) };
    let router = remote.find_router(arguments.router.as_deref()).await?;
    let Some(kind) = arguments.kind else {
        return overview(&remote, router.as_ref(), limit, arguments.json).await;
    };
    let listed = remote.list(kind, router.as_ref(), limit).await?;
    if arguments.json {
        print_json(&listed.items);
        return Ok(());
    }
    println!("{}", rows(kind, &listed.items)?);
    say_more(&listed);
    Ok(())
}

fn say_more(listed: &Listed) {
    if listed.has_more {
        eprintln!("There are more than these {}: --all shows them.", listed.items.len());
    }
}

async fn overview(
    remote: &Remote,
    router: Option<&Id>,
    limit: usize,
    as_json: bool,
) -> Result<(), Failure> {
    let health = remote.get("/health").await?;
    let workers = remote.list(Kind::Workers, None, limit).await?;
    let routers = remote.list(Kind::Routers, router, limit).await?;
    if as_json {
        let (workers, routers) = (workers.items, routers.items);
        print_json(
            &serde_json::json!({ "health": health, "workers": workers, "routers": routers }),
        );
        return Ok(());
    }
    let health: Health = read(&health)?;
    println!(
        "{}: {}, version {}, up {}; dataplane {} {}\n",
        remote.url,
        word(health.status),
        health.version,
        duration(health.uptime_s),
        word(health.dataplane.status),
        or_dash(health.dataplane.version)
    );
    println!("{}\n", rows(Kind::Workers, &workers.items)?);
    println!("{}", rows(Kind::Routers, &routers.items)?);
    say_more(&routers);
    Ok(())
}

/// A table of things of one kind.
pub(crate) fn rows(kind: Kind, items: &[Value]) -> Result<String, Failure> {
    Ok(match kind {
        Kind::Workers => each(
            items,
            &[
                "WORKER", ">CORE", "STATUS", ">BUSY", ">ROUTERS", ">TRANSP", ">PROD", ">CONS",
                ">PKT/S", ">OUT", ">P50", ">P99",
            ],
            worker,
        )?,
        Kind::Routers => each(
            items,
            &["ROUTER", "WORKER", ">PEOPLE", ">TRANSP", ">PROD", ">CONS", ">AGE"],
            |one: RouterListItem| {
                vec![
                    one.router.id.to_string(),
                    one.router.worker_id.to_string(),
                    one.counts.participants.to_string(),
                    one.counts.transports.to_string(),
                    one.counts.producers.to_string(),
                    one.counts.consumers.to_string(),
                    age(one.router.created_at),
                ]
            },
        )?,
        Kind::Transports => each(
            items,
            &["TRANSPORT", "ROUTER", "PARTICIPANT", "TYPE", "ICE", "DTLS", "PEER", ">AGE"],
            |one: TransportInfo| {
                vec![
                    one.id.to_string(),
                    one.router_id.to_string(),
                    or_dash(one.participant_id.as_ref()),
                    word(one.kind()),
                    or_dash(one.webrtc().map(|link| word(link.ice_state))),
                    or_dash(one.webrtc().map(|link| word(link.dtls_state))),
                    or_dash(one.tuple().map(peer)),
                    age(one.created_at),
                ]
            },
        )?,
        Kind::Participants => participants(items)?,
        Kind::Producers => each(
            items,
            &["PRODUCER", "ROUTER", "PARTICIPANT", "CODEC", "TYPE", "STATE", "SCORE", ">AGE"],
            |one: ProducerInfo| {
                let codec = one.rtp_parameters.codecs.first().map(|codec| codec.mime_type.clone());
                let scores: Vec<_> = one.score.iter().map(|one| one.score.to_string()).collect();
                vec![
                    one.id.to_string(),
                    one.router_id.to_string(),
                    or_dash(one.participant_id),
                    or_dash(codec),
                    word(one.producer_type),
                    if one.paused { "paused" } else { "sends" }.to_owned(),
                    or_dash(Some(scores.join(",")).filter(|text| !text.is_empty())),
                    age(one.created_at),
                ]
            },
        )?,
        Kind::Consumers => each(
            items,
            &[
                "CONSUMER",
                "ROUTER",
                "PARTICIPANT",
                "PRODUCER",
                "TYPE",
                "STATE",
                "LAYERS",
                ">SCORE",
                ">AGE",
            ],
            |one: ConsumerInfo| {
                let state = match (one.paused, one.producer_paused) {
                    (true, _) => "paused",
                    (false, true) => "producer paused",
                    (false, false) => "sends",
                };
                vec![
                    one.id.to_string(),
                    one.router_id.to_string(),
                    or_dash(one.participant_id.as_ref()),
                    one.producer_id.to_string(),
                    word(one.consumer_type),
                    state.to_owned(),
                    layers(&one),
                    one.score.score.to_string(),
                    age(one.created_at),
                ]
            },
        )?,
    })
}

/// `1.2 of 2.2`: as sent now, and as asked for.
pub(crate) fn layers(consumer: &ConsumerInfo) -> String {
    let text = |layers: ironcast_api::ConsumerLayers| match layers.temporal_layer {
        Some(temporal) => format!("{}.{temporal}", layers.spatial_layer),
        None => layers.spatial_layer.to_string(),
    };
    match (consumer.current_layers.map(text), consumer.preferred_layers.map(text)) {
        (None, None) => "-".to_owned(),
        (now, None) => or_dash(now),
        (now, Some(wanted)) => format!("{} of {wanted}", or_dash(now)),
    }
}

fn worker(one: WorkerInfo) -> Vec<String> {
    vec![
        one.id.to_string(),
        or_dash(one.core),
        word(one.status),
        percent(one.cpu_busy),
        one.routers.to_string(),
        one.transports.to_string(),
        one.producers.to_string(),
        one.consumers.to_string(),
        short(one.packets_out_per_second),
        bits(one.bitrate_out_bps),
        format!("{}us", one.forwarding_delay_us.p50.round()),
        format!("{}us", one.forwarding_delay_us.p99.round()),
    ]
}

fn participants(items: &[Value]) -> Result<String, Failure> {
    let mut rows = Vec::new();
    for item in items {
        let transports: Vec<TransportInfo> = read(&item["transports"])?;
        let text = |name: &str| or_dash(item[name].as_str());
        let states: Vec<String> = transports.iter().map(state).collect();
        let first = transports.iter().map(|one| one.created_at).min().unwrap_or_default();
        let count = transports.len().to_string();
        rows.push(vec![text("id"), text("routerId"), count, states.join(","), age(first)]);
    }
    Ok(table(&["PARTICIPANT", "ROUTER", ">TRANSP", "ICE", ">AGE"], rows))
}

/// Where a transport's peer is.
fn peer(tuple: &TransportTuple) -> String {
    format!("{}:{}", or_dash(tuple.remote_ip.as_ref()), or_dash(tuple.remote_port))
}

/// In one word.
fn state(transport: &TransportInfo) -> String {
    transport.webrtc().map_or_else(|| word(transport.kind()), |link| word(link.ice_state))
}

fn each<T: serde::de::DeserializeOwned>(
    items: &[Value],
    head: &[&str],
    row: impl Fn(T) -> Vec<String>,
) -> Result<String, Failure> {
    let rows: Vec<T> = items.iter().map(read).collect::<Result<_, _>>()?;
    Ok(table(head, rows.into_iter().map(row)))
}
