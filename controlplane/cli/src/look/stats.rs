//! `ironcast stats`: the figures of a thing, now.

use clap::Args;
use ironcast_api::{
    Id, LinkStats, RouterDetails, RtpStreamStats, RtpStreamStatsType, TransportStats,
};
use serde_json::Value;

use super::{
    table::{bits, or_dash, percent, print_json, short, table, word},
    things::{Kind, Which, read},
};
use crate::remote::{EXIT_CODES, Failure, Reach, Remote};

#[derive(Args, Debug)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Print JSON: mediasoup's records
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

pub(crate) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let remote = arguments.reach.connect()?;
    let found = arguments.which.find(&remote).await?;
    let (kind, ids) = match arguments.which.kind {
        Kind::Workers => {
            print_json(&found.value);
            return Ok(());
        }
        Kind::Routers => (Kind::Transports, read::<RouterDetails>(&found.value)?.transports),
        Kind::Participants => {
            let Value::Array(transports) = &found.value["transports"] else { return Ok(()) };
            let ids = transports.iter().filter_map(|one| Id::new(one["id"].as_str()?).ok());
            (Kind::Transports, ids.collect())
        }
        other => (other, vec![found.id]),
    };
    let mut records = Vec::new();
    for id in &ids {
        match stats(&remote, kind, id).await {
            Ok(more) => records.extend(more),
            // One of many may go away meanwhile.
            Err(Failure::Client(error, _)) if ids.len() > 1 && error.code().is_some() => {}
            Err(failure) => return Err(failure),
        }
    }
    if arguments.json {
        print_json(&records);
    } else if kind == Kind::Transports {
        println!("{}", transports(&records)?);
    } else {
        println!("{}", streams(&records)?);
    }
    Ok(())
}

async fn stats(remote: &Remote, kind: Kind, id: &Id) -> Result<Vec<Value>, Failure> {
    match remote.get(&format!("/{}/{id}/stats", kind.plural())).await? {
        Value::Array(records) => Ok(records),
        other => Ok(vec![other]),
    }
}

fn transports(records: &[Value]) -> Result<String, Failure> {
    let records: Vec<TransportStats> = records.iter().map(read).collect::<Result<_, _>>()?;
    let head = [
        "TRANSPORT",
        "ICE",
        "DTLS",
        ">RECV",
        ">SEND",
        ">RTX SENT",
        ">ESTIMATE",
        ">LOST IN",
        ">LOST OUT",
        "CIPHER",
    ];
    Ok(table(
        &head,
        records.into_iter().map(|one| {
            let (ice, dtls) = match &one.link {
                LinkStats::Webrtc(link) => (word(link.ice_state), word(link.dtls_state)),
                LinkStats::Plain(_) | LinkStats::Pipe(_) => {
                    (or_dash(None::<String>), or_dash(None::<String>))
                }
            };
            vec![
                one.transport_id,
                ice,
                dtls,
                bits(one.recv_bitrate),
                bits(one.send_bitrate),
                bits(one.rtx_send_bitrate),
                or_dash(one.available_outgoing_bitrate.map(bits)),
                or_dash(one.rtp_packet_loss_received.map(percent)),
                or_dash(one.rtp_packet_loss_sent.map(percent)),
                or_dash(one.srtp_crypto_suite),
            ]
        }),
    ))
}

fn streams(records: &[Value]) -> Result<String, Failure> {
    let records: Vec<RtpStreamStats> = records.iter().map(read).collect::<Result<_, _>>()?;
    let head = [
        "STREAM",
        "RID",
        ">SSRC",
        "CODEC",
        ">RATE",
        ">PACKETS",
        ">LOST",
        ">LOSS",
        ">REPEATED",
        ">NACK",
        ">PLI",
        ">RTT",
        ">SCORE",
    ];
    Ok(table(
        &head,
        records.into_iter().map(|one| {
            let way = match one.direction {
                RtpStreamStatsType::InboundRtp => "in",
                RtpStreamStatsType::OutboundRtp => "out",
            };
            vec![
                way.to_owned(),
                or_dash(one.rid),
                one.ssrc.to_string(),
                one.mime_type,
                bits(one.bitrate),
                short(one.packet_count as f64),
                one.packets_lost.to_string(),
                percent(f64::from(one.fraction_lost) / 256.0),
                one.packets_retransmitted.to_string(),
                one.nack_count.to_string(),
                one.pli_count.to_string(),
                or_dash(one.round_trip_time.map(|ms| format!("{ms:.0}ms"))),
                one.score.to_string(),
            ]
        }),
    ))
}
