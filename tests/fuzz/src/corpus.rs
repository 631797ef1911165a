//! The inputs that fuzzing begins with: well-formed messages of every kind, made by our own writers
//! where there are some. The files in `corpus/` are these, written by `make-corpus`.

use std::path::PathBuf;

use ironcast_core::{
    framing,
    wire::{
        red::{earlier_header, newest_header},
        rtcp::{CompoundWriter, DlrrReport, Pause, ReportBlock, SenderInfo},
        rtp::{Fields, HeaderWriter},
        stun,
        twcc::Head,
    },
};
use ironcast_protocol::{
    Command, Event,
    command::{
        ConnectTransport, CreateWebRtcTransport, DtlsFingerprint, DtlsRole, Dump, Named, Produce,
    },
    event::IceState,
    frame::{FrameKind, Hello, MAGIC, VERSION, encode_body, write_frame},
    media::{MediaKind, RtpCodec, RtpEncoding, RtpMapping, RtpParameters},
};

use crate::{PASSWORD, STREAM_FRAME_BYTES_MAX};

/// Names and contents.
type Files = Vec<(&'static str, Vec<u8>)>;

/// One file.
#[derive(Debug)]
pub struct Input {
    /// Folder.
    pub target: &'static str,
    /// Name of the file.
    pub name: String,
    /// Content.
    pub bytes: Vec<u8>,
}

impl Input {
    /// Path below [`directory`].
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}/{}", self.target, self.name)
    }
}

/// Where the committed files are.
#[must_use]
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// All inputs of all targets.
#[must_use]
pub fn all() -> Vec<Input> {
    let targets: [(&'static str, Files); 8] = [
        ("stun", stun_inputs()),
        ("rtp", rtp_inputs()),
        ("rtcp", rtcp_inputs()),
        ("payload", payload_inputs()),
        ("red", red_inputs()),
        ("srtp", srtp_inputs()),
        ("frames", frame_inputs()),
        ("stream", stream_inputs()),
    ];
    targets
        .into_iter()
        .flat_map(|(target, inputs)| {
            inputs.into_iter().map(move |(name, bytes)| Input {
                target,
                name: name.to_owned(),
                bytes,
            })
        })
        .collect()
}

fn stun_inputs() -> Files {
    let id = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    let request = |role, use_candidate, nomination| {
        let request = stun::Request {
            transaction_id: id,
            username: "ours:theirs",
            priority: 0x6e00_1eff,
            role,
            use_candidate,
            nomination,
            dtls: None,
        };
        filled(|buffer| stun::write_request(buffer, &request, PASSWORD))
    };
    let success = |address: &str| {
        let address = address.parse().expect("an address");
        filled(|buffer| stun::write_success(buffer, &id, address, None, PASSWORD))
    };
    let error = |code, unknown: &[u16], password| {
        filled(|buffer| stun::write_error(buffer, &id, code, unknown, password))
    };
    let bare = |attributes: &[u8]| {
        let mut bytes = vec![0, 1, 0, attributes.len() as u8, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend(id);
        bytes.extend(attributes);
        bytes
    };
    vec![
        ("request-controlling", request(stun::Role::Controlling(7), false, None)),
        ("request-nominating", request(stun::Role::Controlling(7), true, None)),
        ("request-renominating", request(stun::Role::Controlling(7), true, Some(3))),
        ("request-controlled", request(stun::Role::Controlled(9), false, None)),
        ("success-v4", success("192.0.2.1:40000")),
        ("success-v6", success("[2001:db8::1]:40000")),
        ("error-400", error(stun::BAD_REQUEST, &[], None)),
        ("error-401", error(stun::UNAUTHENTICATED, &[], None)),
        ("error-420", error(stun::UNKNOWN_ATTRIBUTE, &[0x7777, 3], Some(PASSWORD))),
        ("error-487", error(stun::ROLE_CONFLICT, &[], Some(PASSWORD))),
        ("no-attributes", bare(&[])),
        ("unknown-attributes", bare(&[0x77, 0x77, 0, 1, 9, 0, 0, 0, 0x8a, 0xbc, 0, 0])),
        ("username-only", bare(&[0, 6, 0, 3, b'a', b':', b'b', 0])),
        ("integrity-cut", bare(&[0, 8, 0, 20, 1, 2, 3, 4])),
    ]
}

fn filled<E: std::fmt::Debug>(write: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Vec<u8> {
    let mut buffer = [0; 1_200];
    let len = write(&mut buffer).expect("the buffer is large");
    buffer[..len].to_vec()
}

fn rtp_packet(fields: Fields, extensions: &[(u8, &[u8])], payload: &[u8]) -> Vec<u8> {
    let mut packet = filled(|buffer| {
        let mut writer = HeaderWriter::begin(buffer, &fields)?;
        extensions.iter().try_for_each(|(id, value)| writer.push(*id, value))?;
        writer.finish()
    });
    packet.extend(payload);
    packet
}

fn video() -> Fields {
    Fields {
        marker: true,
        payload_type: 96,
        sequence_number: 65_535,
        timestamp: 90_000,
        ssrc: 0x1234_5678,
        padding: false,
    }
}

fn rtp_inputs() -> Files {
    let vp8: &[u8] = &[0x90, 0xe0, 0x81, 0x23, 5, 0x20, 0x10, 0, 0, 1];
    let padded = Fields { padding: true, ..video() };
    let long = [0x55; 40];
    let mut with_csrc = rtp_packet(video(), &[], &[]);
    with_csrc[0] |= 3;
    with_csrc.extend([0; 12]);
    with_csrc.extend(vp8);
    let mut other_profile = rtp_packet(video(), &[(1, b"0")], vp8);
    other_profile[12..14].copy_from_slice(&[0x12, 0x34]);
    let mut reserved = rtp_packet(video(), &[(1, b"0"), (2, b"1")], vp8);
    reserved[18] = 0xf0;
    vec![
        ("plain", rtp_packet(video(), &[], vp8)),
        ("empty", rtp_packet(video(), &[], &[])),
        ("mid-rid", rtp_packet(video(), &[(1, b"0"), (2, b"hi")], vp8)),
        ("times", rtp_packet(video(), &[(3, &[4, 0, 0]), (4, &[1, 2]), (5, &[0; 16])], vp8)),
        ("audio-level", rtp_packet(video(), &[(6, &[0x9e])], &[0xb0, 1, 2, 3])),
        ("orientation", rtp_packet(video(), &[(7, &[3]), (8, &[0, 0xa0, 0x14])], vp8)),
        ("two-byte", rtp_packet(video(), &[(1, b"0"), (20, &long), (21, &[])], vp8)),
        ("padding", rtp_packet(padded, &[(1, b"0")], &[1, 2, 3, 0, 0, 3])),
        ("padding-only", rtp_packet(padded, &[(4, &[0, 9])], &[0, 0, 0, 0, 0, 6])),
        ("padding-wrong", rtp_packet(padded, &[], &[1, 2, 9])),
        ("csrc", with_csrc),
        ("other-profile", other_profile),
        ("reserved-id", reserved),
        ("rtx", rtp_packet(video(), &[(1, b"0")], &[0, 9, 0x10, 0x01, 7])),
    ]
}

fn compound(
    write: impl FnOnce(&mut CompoundWriter<'_>) -> Result<(), ironcast_core::wire::Full>,
) -> Vec<u8> {
    filled(|buffer| {
        let mut writer = CompoundWriter::new(buffer);
        write(&mut writer)?;
        Ok::<_, ironcast_core::wire::Full>(writer.len())
    })
}

fn rtcp_inputs() -> Files {
    let info =
        SenderInfo { ssrc: 1, ntp: 5 << 32, rtp_timestamp: 9, packet_count: 3, octet_count: 4 };
    let block =
        ReportBlock { ssrc: 2, fraction_lost: 9, cumulative_lost: -3, ..Default::default() };
    let delay = DlrrReport { ssrc: 1, last_reference_time: 2, delay: 3 };
    let head = Head { base_sequence: 65_530, reference_time: -4, feedback_count: 250 };
    let mixed = [Some(3), None, Some(-9), Some(400), None, None, Some(0), Some(255)];
    let feedback = |statuses: &[Option<i16>]| {
        compound(|w| w.transport_feedback(1, 2, head, statuses).map(drop))
    };
    let pause = |ssrc, is_paused| Pause { ssrc, is_paused, number: 7 };
    let mut app = vec![0x81, 204, 0, 3];
    app.extend(b"\0\0\0\x01nameDATA");
    vec![
        ("sender-report", compound(|w| w.sender_report(&info, &[block, block]))),
        ("receiver-report", compound(|w| w.receiver_report(1, &[block]))),
        ("empty-report", compound(|w| w.receiver_report(1, &[]))),
        ("many-reports", compound(|w| w.receiver_report(1, &[block; 33]))),
        ("cname", compound(|w| w.cname(1, "somebody@somewhere"))),
        ("goodbye", compound(|w| w.goodbye(&[1, 2, 3]))),
        ("nack", compound(|w| w.nack(1, 2, &[65_534, 65_535, 3, 100, 101]))),
        ("pause-resume", compound(|w| w.pause_resume(1, &[pause(2, true), pause(3, false)]))),
        ("picture-loss", compound(|w| w.picture_loss(1, 2))),
        ("full-intra", compound(|w| w.full_intra(1, &[(2, 3), (4, 5)]))),
        ("maximum-bitrate", compound(|w| w.maximum_bitrate(1, 1_234_567, &[2, 3]))),
        ("reference-time", compound(|w| w.reference_time(1, 7 << 32))),
        ("dlrr", compound(|w| w.dlrr(1, &[delay, delay]))),
        ("feedback-mixed", feedback(&mixed)),
        ("feedback-run", feedback(&[Some(1); 40])),
        ("feedback-lost", feedback(&[&[Some(2)][..], &[None; 60], &[Some(1)]].concat())),
        ("application", app),
        (
            "usual-compound",
            compound(|w| {
                w.sender_report(&info, &[block])?;
                w.cname(1, "c")?;
                w.reference_time(1, 7)?;
                w.nack(1, 2, &[5])?;
                w.picture_loss(1, 2)
            }),
        ),
    ]
}

fn payload_inputs() -> Files {
    let input = |codec: u8, descriptor: &[u8], payload: &[u8]| {
        [&[codec, descriptor.len() as u8], descriptor, payload].concat()
    };
    let h264 = |payload: &[u8]| input(2, &[], payload);
    let h265 = |payload: &[u8]| input(6, &[], payload);
    vec![
        ("vp8-key", input(0, &[], &[0x90, 0xf0, 0x92, 0x34, 9, 0xa5, 0x10, 0, 0x9d, 1, 0x2a])),
        ("vp8-delta", input(0, &[], &[0x90, 0xe0, 0x12, 9, 0x40, 0x11])),
        ("vp8-short", input(0, &[], &[0x10, 0x01])),
        ("vp9-key", {
            let structure = [0x38, 1, 64, 0, 180, 2, 128, 1, 104, 1, 4, 1];
            input(1, &[], &[&[0xaa, 0x92, 0x34, 0, 9][..], &structure, &[0xff]].concat())
        }),
        ("vp9-flexible", input(1, &[], &[0xf4, 5, 0x53, 3, 4, 0xaa])),
        ("vp9-delta", input(1, &[], &[0xec, 0x80, 7, 0x22, 5, 0xaa])),
        ("h264-sps", h264(&[0x67, 0x42, 0xe0, 0x1f])),
        ("h264-idr", h264(&[0x65, 0x88, 0x84])),
        ("h264-slice", h264(&[0x41, 0x9a, 0x01])),
        (
            "h264-stap",
            h264(&[0x78, 0, 4, 0x67, 0x42, 0xe0, 0x1f, 0, 2, 0x68, 0xce, 0, 2, 0x65, 0x88]),
        ),
        ("h264-fu-start", h264(&[0x7c, 0x85, 0x88])),
        ("h264-fu-end", h264(&[0x7c, 0x45, 0x88])),
        ("h264-prefix", h264(&[0x78, 0, 4, 0x6e, 0x80, 0, 0x40, 0, 2, 0x41, 0x9a])),
        ("h265-vps", h265(&[0x40, 0x01, 0x0c, 0x01])),
        (
            "h265-aggregate",
            h265(&[
                0x60, 0x01, 0, 3, 0x40, 0x01, 0x0c, 0, 3, 0x42, 0x01, 1, 0, 3, 0x26, 0x01, 0xaf,
            ]),
        ),
        ("h265-fragment", h265(&[0x62, 0x01, 0x93, 0xaf])),
        ("h265-layer", h265(&[0x04, 0x03, 0xd0])),
        ("h265-extended", h265(&[0x64, 0x01, 0x40, 0x20, 7, 7, 0x0c])),
        ("av1-key", input(3, &[], &[0x28, 3, 0x08, 0, 0, 0x30, 1, 2])),
        ("av1-lengths", input(3, &[], &[0x00, 2, 0x30, 1, 3, 0x34, 0x48, 2])),
        ("av1-delta", input(3, &[], &[0x10, 0x34, 0x48, 2])),
        ("av1-descriptor", input(3, &[0xc0, 0, 1, 0x80, 1, 2, 3], &[0x18, 0x30, 1])),
        ("av1-many", input(3, &[], &[0; 300])),
        ("av1-continued", input(3, &[0x05, 0, 9], &[0x90, 1, 2])),
        ("opus", input(4, &[], &[0xb0, 1, 2, 3, 4])),
        ("opus-silence", input(4, &[], &[0xb0])),
        ("other", input(5, &[], &[1, 2, 3])),
    ]
}

fn red_inputs() -> Files {
    /// RED around Opus of so many packets, each so many milliseconds before the newest.
    fn around(before: &[(u32, &[u8])], newest: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (ms, bytes) in before {
            out.extend(earlier_header(111, 48 * ms, bytes.len()));
        }
        out.push(newest_header(111));
        before.iter().for_each(|(_, bytes)| out.extend(*bytes));
        out.extend(newest);
        out
    }
    let packets = |packets: &[(u8, Vec<u8>)]| {
        let one = |(lost, bytes): &(u8, Vec<u8>)| [&[*lost, bytes.len() as u8][..], bytes].concat();
        packets.iter().flat_map(one).collect()
    };
    let first = || (0, around(&[], b"first"));
    vec![
        ("alone", packets(&[first()])),
        ("whole", packets(&[first(), (0, around(&[(20, b"first")], b"second"))])),
        ("one-lost", packets(&[first(), (1, around(&[(20, b"second")], b"third"))])),
        (
            "two-lost",
            packets(&[first(), (2, around(&[(40, b"second"), (20, b"third")], b"fourth"))]),
        ),
        ("one-of-three-lost", packets(&[first(), (3, around(&[(20, b"fourth")], b"fifth"))])),
        ("far", packets(&[first(), (9, around(&[(341, b"far")], b"newest"))])),
        ("empty", packets(&[first(), (1, around(&[(20, b"")], b"")), (0, Vec::new())])),
        (
            "other-codec",
            packets(&[first(), (1, [&[0xe5, 0x0f, 0, 3, 111], &b"123x"[..]].concat())]),
        ),
        ("nested", packets(&[first(), (1, [&[63], &around(&[], b"x")[..]].concat())])),
        ("cut-short", packets(&[first(), (1, vec![0xef, 0x0f, 0x03, 0xff, 111, 1, 2])])),
        ("headers-alone", packets(&[first(), (1, vec![0xff; 200])])),
    ]
}

fn srtp_inputs() -> Files {
    let input = |suite: u8, flip: u8, packet: &[u8]| [&[suite, flip], packet].concat();
    let rtp = rtp_packet(video(), &[(1, b"0"), (2, b"hi")], &[7; 60]);
    let plain = rtp_packet(video(), &[], &[7; 20]);
    let rtcp = compound(|w| {
        w.receiver_report(1, &[])?;
        w.nack(1, 2, &[5, 9])
    });
    vec![
        ("rtp-gcm-128", input(0, 5, &rtp)),
        ("rtp-gcm-256", input(1, 70, &rtp)),
        ("rtp-cm-80", input(2, 90, &rtp)),
        ("rtp-cm-32", input(3, 33, &rtp)),
        ("rtp-empty", input(0, 1, &rtp_packet(video(), &[], &[]))),
        ("rtp-plain", input(2, 30, &plain)),
        ("rtcp-gcm-128", input(0, 20, &rtcp)),
        ("rtcp-gcm-256", input(1, 3, &rtcp)),
        ("rtcp-cm-80", input(2, 44, &rtcp)),
        ("rtcp-cm-32", input(3, 9, &rtcp)),
        ("rtcp-short", input(0, 0, &rtcp[..8])),
        ("nothing", input(1, 0, &[])),
    ]
}

/// The other targets' datagrams, as a connection carries them.
fn stream_inputs() -> Files {
    let framed = |datagrams: &[&[u8]]| -> Vec<u8> {
        let prefix = |len: usize| framing::prefix(len).expect("a datagram");
        datagrams
            .iter()
            .flat_map(|d| prefix(d.len()).into_iter().chain(d.iter().copied()))
            .collect()
    };
    let check = stun_inputs().swap_remove(0).1;
    let check = &check[..];
    let (packet, largest) =
        ([[128, 111].as_slice(), &[7; 90]].concat(), [1; STREAM_FRAME_BYTES_MAX]);
    let (packet, all) = (&packet[..], &[check, &largest, &[20, 254, 253]][..]);
    let too_long = [framed(&[check]), (STREAM_FRAME_BYTES_MAX as u16 + 1).to_be_bytes().to_vec()];
    let inputs: [(&'static str, u8, Vec<u8>); 11] = [
        ("check", 255, framed(&[check])),
        ("check-byte-by-byte", 1, framed(&[check])),
        ("check-and-media", 255, framed(&[check, packet, packet])),
        ("media-in-pieces", 61, framed(&[packet; 5])),
        ("largest", 200, framed(&[&largest, packet])),
        ("kinds", 100, framed(all)),
        ("kinds-in-pairs", 2, framed(all)),
        ("empty", 3, framed(&[&[], &[], check, &[]])),
        ("half", 255, framed(&[check, packet])[..90].to_vec()),
        ("too-long", 255, too_long.concat()),
        ("too-long-byte-by-byte", 1, too_long.concat()),
    ];
    inputs.into_iter().map(|(name, piece, bytes)| (name, [&[piece][..], &bytes].concat())).collect()
}

fn frame_inputs() -> Files {
    let framed = |kind, body: &dyn Fn(&mut Vec<u8>, FrameKind)| {
        let mut bytes = Vec::new();
        body(&mut bytes, kind);
        bytes
    };
    let command = |command: Command| {
        framed(FrameKind::Request, &|out, kind| {
            write_frame(out, kind, 7, &command).expect("a command fits");
        })
    };
    let event = |event: &Event| {
        let mut out = Vec::new();
        write_frame(&mut out, FrameKind::Event, 9, event).expect("an event fits");
        out
    };
    let named = || Named { id: "room-1".to_owned() };
    let hello = Hello {
        magic: MAGIC.to_owned(),
        version: VERSION,
        min_version: VERSION,
        controller: "control".to_owned(),
        gives_way: false,
    };
    let hello = framed(FrameKind::Hello, &|out, kind| {
        write_frame(out, kind, 0, &hello).expect("a hello fits");
    });
    let state = Event::IceStateChange { transport: "t".to_owned(), state: IceState::Connected };
    let bare = encode_body(&Command::CloseRouter(named())).expect("a command fits");
    let mut two = command(Command::Workers);
    two.extend(command(Command::Snapshot));
    let mut cut = command(Command::Dump(Dump { id: named().id, kind: None }));
    cut.truncate(cut.len() - 3);
    vec![
        ("hello", hello),
        ("workers", command(Command::Workers)),
        ("close-router", command(Command::CloseRouter(named()))),
        ("create-transport", command(Command::CreateWebRtcTransport(create_transport()))),
        ("connect-transport", command(Command::ConnectTransport(connect_transport()))),
        ("produce", command(Command::Produce(produce()))),
        ("restart-ice", command(Command::RestartIce(named()))),
        ("ice-state", event(&state)),
        ("worker-restarted", event(&Event::WorkerRestarted { worker: 3 })),
        ("bare-command", bare),
        ("bare-event", encode_body(&state).expect("an event fits")),
        ("two-frames", two),
        ("cut-frame", cut),
        ("too-large", vec![0xff; 8]),
        ("empty-frame", vec![0; 4]),
    ]
}

fn create_transport() -> CreateWebRtcTransport {
    CreateWebRtcTransport {
        id: "transport-1".to_owned(),
        router: "room-1".to_owned(),
        consent_timeout_s: 30,
        disconnected_timeout_s: 0,
        initial_available_outgoing_bitrate_bps: 600_000,
        candidates: Default::default(),
        note: b"note".to_vec(),
    }
}

fn connect_transport() -> ConnectTransport {
    let fingerprint =
        DtlsFingerprint { algorithm: "sha-256".to_owned(), value: "AB:CD".to_owned() };
    ConnectTransport {
        id: "transport-1".to_owned(),
        role: DtlsRole::Client,
        fingerprints: vec![fingerprint],
        note: Vec::new(),
    }
}

fn produce() -> Produce {
    let codec = RtpCodec {
        mime_type: "video/VP8".to_owned(),
        payload_type: 96,
        clock_rate: 90_000,
        ..RtpCodec::default()
    };
    let encoding = RtpEncoding { rid: Some("lo".to_owned()), ..RtpEncoding::default() };
    Produce {
        id: "producer-1".to_owned(),
        transport: "transport-1".to_owned(),
        kind: MediaKind::Video,
        rtp_parameters: RtpParameters {
            mid: Some("0".to_owned()),
            codecs: vec![codec],
            encodings: vec![encoding],
            ..RtpParameters::default()
        },
        rtp_mapping: RtpMapping::default(),
        paused: false,
        key_frame_request_delay_ms: 0,
        note: Vec::new(),
    }
}
