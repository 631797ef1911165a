//! A dataplane that moves no packet: answers each command at once, so that the control plane alone
//! is measured. Run as a process of its own by the scenario `api`, on the load's core.

use std::{collections::HashSet, path::Path};

use anyhow::{Context, Result, ensure};
use ironcast_protocol::{
    Command, CommandError, ErrorCode, FrameKind, Reply,
    command::{
        Consumed, ConsumerScore, DtlsFingerprint, DtlsRole, IceCandidate, IceParameters,
        TransportCreated,
    },
    frame::{self, Hello, MAGIC, VERSION, Welcome},
    media::RtpType,
    snapshot::ResourceCounts,
    stats::{Hottest, ProcessStats, WorkerStats},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

/// What is read at once.
const READ_BYTES: usize = 1 << 20;

/// Serves one control plane after the other; never ends by itself.
pub(crate) async fn run(socket: &Path) -> Result<()> {
    let listener = UnixListener::bind(socket).context("the socket cannot be opened")?;
    loop {
        let (stream, _) = listener.accept().await?;
        // A control plane that goes away ends its connection, nothing else.
        if let Err(error) = serve(stream).await {
            tracing::debug!(%error, "a control plane has gone");
        }
    }
}

async fn serve(mut stream: UnixStream) -> Result<()> {
    let (mut buffer, mut out) = (Vec::with_capacity(READ_BYTES), Vec::new());
    let mut there = HashSet::new();
    let mut is_greeted = false;
    loop {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "the end");
        while let Some(frame) = frame::take_frame(&mut buffer)? {
            if !is_greeted {
                let hello: Hello = frame::decode_body(&frame.body)?;
                ensure!(hello.magic == MAGIC, "not a control plane");
                frame::write_frame(&mut out, FrameKind::Welcome, 0, &welcome())?;
                is_greeted = true;
            } else if frame.kind == FrameKind::Request {
                let answer = match frame::decode_body(&frame.body) {
                    Ok(command) => answer(command, &mut there),
                    Err(error) => Err(CommandError::new(ErrorCode::Invalid, error.to_string())),
                };
                frame::write_frame(&mut out, FrameKind::Response, frame.id, &answer)?;
            }
        }
        stream.write_all(&out).await?;
        out.clear();
    }
}

fn welcome() -> Welcome {
    Welcome {
        magic: MAGIC.to_owned(),
        version: VERSION,
        release: "stand-in".to_owned(),
        boot_id: std::process::id().to_string(),
        event_seq: 0,
    }
}

/// Does what the control plane relies on: ids are taken once, and what is made is described.
fn answer(command: Command, there: &mut HashSet<String>) -> Result<Reply, CommandError> {
    let mut take = |id: &str| {
        let is_new = there.insert(id.to_owned());
        is_new.then_some(()).ok_or_else(|| CommandError::new(ErrorCode::AlreadyExists, "taken"))
    };
    Ok(match command {
        Command::Workers => Reply::Workers(vec![WorkerStats {
            running: true,
            ports: (40_000, 44_999),
            ..WorkerStats::default()
        }]),
        Command::Process => Reply::Process(ProcessStats::default()),
        Command::Hottest(_) => Reply::Hottest(Hottest::default()),
        Command::Snapshot => {
            Reply::Snapshot { event_seq: 0, counts: Some(ResourceCounts::default()) }
        }
        Command::CreateRouter(create) => take(&create.id).map(|()| Reply::Done)?,
        Command::CreateWebRtcTransport(create) => {
            take(&create.id)?;
            Reply::TransportCreated(created(&create.id))
        }
        Command::ConnectTransport(_) => Reply::Connected { local_role: DtlsRole::Server },
        Command::Produce(create) => {
            take(&create.id)?;
            let is_single = create.rtp_parameters.encodings.len() == 1;
            Reply::Produced {
                rtp_type: if is_single { RtpType::Simple } else { RtpType::Simulcast },
            }
        }
        Command::Consume(create) => {
            take(&create.id)?;
            Reply::Consumed(Consumed {
                paused: create.paused,
                producer_paused: false,
                score: ConsumerScore { score: 10, producer_score: 10, producer_scores: vec![10] },
                preferred_layers: create.preferred_layers,
            })
        }
        Command::CloseRouter(_)
        | Command::CloseTransport(_)
        | Command::CloseProducer(_)
        | Command::CloseConsumer(_)
        | Command::SetSettings(_) => Reply::Done,
        other => {
            let message = format!("the stand-in does not know {other:?}");
            return Err(CommandError::new(ErrorCode::UnknownCommand, message));
        }
    })
}

fn created(id: &str) -> TransportCreated {
    TransportCreated {
        ice_parameters: IceParameters {
            username_fragment: id.to_owned(),
            password: "0123456789abcdefghijklmn".to_owned(),
        },
        ice_candidates: vec![IceCandidate {
            foundation: "udp".to_owned(),
            priority: 2_113_937_151,
            address: "127.0.0.1".to_owned(),
            protocol: "udp".to_owned(),
            port: 40_000,
        }],
        dtls_fingerprints: vec![DtlsFingerprint {
            algorithm: "sha-256".to_owned(),
            value: ["AB"; 32].join(":"),
        }],
    }
}
