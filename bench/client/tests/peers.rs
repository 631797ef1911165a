//! Two participants against each other on loopback, one in the part of the ICE-lite server.

use std::{net::IpAddr, time::Duration};

use ironcast_load::{
    AudioOptions, DtlsRole, Incoming, Peer, PeerError, PeerOptions, PeerState, ReceiveMode,
    ReceiveOptions, Remote, Session, SrtpProfile, VideoOptions,
    rtp::packet::Packet,
    source::{ExtensionIds, LayerOptions},
};

const LIMIT: Duration = Duration::from_secs(20);

fn options(bind: &str, profile: SrtpProfile, role: DtlsRole) -> PeerOptions {
    PeerOptions {
        bind: bind.parse::<IpAddr>().expect("an address"),
        profiles: vec![profile],
        role,
        consent_interval: Duration::from_millis(100),
        ..PeerOptions::default()
    }
}

async fn pair(caller: PeerOptions, callee: PeerOptions) -> (Peer, Peer) {
    let mut caller = Peer::new(caller).expect("a socket");
    let mut callee = Peer::new(callee).expect("a socket");
    let remote = Remote {
        ice: callee.local_ice(),
        candidates: vec![callee.local_addr().expect("bound")],
        fingerprints: vec![callee.local_fingerprint()],
    };
    let expected = [caller.local_fingerprint()];
    let (called, accepted) = tokio::join!(caller.connect(remote), callee.accept(&expected));
    assert_eq!(called.expect("connects"), accepted.expect("accepts"));
    (caller, callee)
}

fn receive(video: &VideoOptions) -> ReceiveOptions {
    ReceiveOptions {
        ssrc: video.layers[0].ssrc,
        rtx_ssrc: video.layers[0].rtx_ssrc,
        payload_type: video.payload_type,
        clock_hz: 90_000,
        nack: true,
        vp8: true,
    }
}

#[tokio::test]
async fn every_profile_and_both_roles_carry_media_both_ways() {
    for profile in SrtpProfile::ALL {
        for (ours, theirs) in
            [(DtlsRole::Client, DtlsRole::Server), (DtlsRole::Server, DtlsRole::Client)]
        {
            for bind in ["127.0.0.1", "::1"] {
                let (caller, callee) =
                    pair(options(bind, profile, ours), options(bind, profile, theirs)).await;
                assert_eq!(*caller.state().borrow(), PeerState::Connected(profile));
                let (caller, callee) = (Session::new(caller), Session::new(callee));
                for (from, to) in [(&caller, &callee), (&callee, &caller)] {
                    let video = VideoOptions::single(1_000_000);
                    to.receive(receive(&video));
                    let ssrc = video.layers[0].ssrc;
                    from.send_video(video);
                    let stats =
                        to.wait_for(ssrc, LIMIT, |stats| stats.frames >= 5).await.expect("frames");
                    assert_eq!((stats.corrupt, stats.foreign, stats.lost), (0, 0, 0));
                    assert!(stats.anomalies.is_empty(), "{:?}", stats.anomalies);
                }
            }
        }
    }
}

#[tokio::test]
async fn lost_packets_come_again_with_and_without_rtx() {
    for rtx in [true, false] {
        let (caller, callee) = pair(
            options("127.0.0.1", SrtpProfile::Gcm128, DtlsRole::Client),
            options("127.0.0.1", SrtpProfile::Gcm128, DtlsRole::Server),
        )
        .await;
        let mut video = VideoOptions::single(2_000_000);
        if !rtx {
            video = video.without_rtx();
        }
        let ssrc = video.layers[0].ssrc;
        let mut count = 0u32;
        let mut dropped = std::collections::BTreeSet::new();
        callee.set_filter(Some(Box::new(move |header| {
            count += 1;
            // Each is dropped once only.
            header.ssrc != ssrc
                || !count.is_multiple_of(10)
                || !dropped.insert(header.sequence_number)
        })));
        let (caller, callee) = (Session::new(caller), Session::new(callee));
        callee.receive(receive(&video));
        let source = caller.send_video(video);
        let stats = callee
            .wait_for(ssrc, LIMIT, |stats| stats.recovered >= 10 && stats.frames >= 60)
            .await
            .expect("recovers");
        assert!(stats.anomalies.is_empty(), "{:?}", stats.anomalies);
        assert_eq!((stats.corrupt, stats.broken_frames), (0, 0));
        assert_eq!(stats.rtx_packets > 0, rtx);
        let report = &caller.source_reports(source)[0];
        assert!(report.repeats >= 10, "{report:?}");
        assert!(
            callee
                .wait_until(LIMIT, || callee.receive_stats(ssrc).sender_reports > 0
                    && caller.source_reports(source)[0].round_trip_ms.is_some())
                .await,
            "reports go both ways"
        );
        assert!(callee.receive_stats(ssrc).report_error_ms_max < 100.0);
    }
}

#[tokio::test]
async fn a_picture_loss_gives_a_key_frame_of_that_layer() {
    let (caller, callee) = pair(
        PeerOptions::default(),
        PeerOptions { role: DtlsRole::Server, ..PeerOptions::default() },
    )
    .await;
    let (caller, callee) = (Session::new(caller), Session::new(callee));
    let video = VideoOptions {
        temporal_layers: 3,
        extensions: ExtensionIds { rid: Some(2), mid: Some(1), ..ExtensionIds::default() },
        ..VideoOptions::default()
    };
    let layers: Vec<LayerOptions> = video.layers.clone();
    for layer in &layers {
        callee.receive(ReceiveOptions { ssrc: layer.ssrc, ..receive(&video) });
    }
    let source = caller.send_video(video);
    let top = layers[2].ssrc;
    callee.wait_for(top, LIMIT, |stats| stats.frames >= 8).await.expect("frames");
    callee.send_pli(top).await.expect("connected");
    let stats =
        callee.wait_for(top, LIMIT, |stats| stats.key_frames == 2).await.expect("a key frame");
    assert_eq!(stats.temporal, 2);
    callee.send_fir(top).await.expect("connected");
    callee.wait_for(top, LIMIT, |stats| stats.key_frames == 3).await.expect("another");
    let requests: Vec<u64> =
        caller.source_reports(source).iter().map(|one| one.key_frame_requests).collect();
    assert_eq!(requests, [0, 0, 2]);
    assert_eq!(callee.receive_stats(layers[0].ssrc).key_frames, 1);
}

#[tokio::test]
async fn another_port_and_a_second_microphone_keep_the_call() {
    let (caller, callee) = pair(
        options("127.0.0.1", SrtpProfile::Gcm256, DtlsRole::Client),
        options("127.0.0.1", SrtpProfile::Gcm256, DtlsRole::Server),
    )
    .await;
    let before = caller.local_addr().expect("bound");
    let (caller, callee) = (Session::new(caller), Session::new(callee));
    let audio = AudioOptions::default();
    let expected = ReceiveOptions {
        ssrc: audio.ssrc,
        rtx_ssrc: None,
        payload_type: audio.payload_type,
        clock_hz: 48_000,
        nack: false,
        vp8: false,
    };
    callee.receive(expected);
    let ssrc = audio.ssrc;
    caller.send_audio(audio);
    callee.wait_for(ssrc, LIMIT, |stats| stats.verified >= 5).await.expect("sound");
    caller.peer().rebind(None).expect("a free port");
    let after = caller.peer().local_addr().expect("bound");
    assert_ne!(before, after);
    assert!(
        callee.wait_until(LIMIT, || callee.peer().remote_addr() == Some(after)).await,
        "the next check tells the new address"
    );
    let verified = callee.receive_stats(ssrc).verified;
    callee.wait_for(ssrc, LIMIT, |stats| stats.verified > verified + 5).await.expect("sound");
}

#[tokio::test]
async fn close_notify_ends_the_other_side() {
    let (caller, callee) = pair(
        PeerOptions::default(),
        PeerOptions { role: DtlsRole::Server, ..PeerOptions::default() },
    )
    .await;
    caller.close().await;
    let mut state = callee.state();
    tokio::time::timeout(LIMIT, state.wait_for(|state| matches!(state, PeerState::Closed(_))))
        .await
        .expect("in time")
        .expect("the peer lives");
}

#[tokio::test]
async fn a_wrong_fingerprint_is_refused() {
    let mut caller = Peer::new(PeerOptions::default()).expect("a socket");
    let mut callee = Peer::new(PeerOptions { role: DtlsRole::Server, ..PeerOptions::default() })
        .expect("a socket");
    let remote = Remote {
        ice: callee.local_ice(),
        candidates: vec![callee.local_addr().expect("bound")],
        fingerprints: vec![caller.local_fingerprint()],
    };
    let expected = [caller.local_fingerprint()];
    let (called, _) = tokio::join!(caller.connect(remote), callee.accept(&expected));
    assert!(matches!(called, Err(PeerError::Fingerprint)), "{called:?}");
}

#[tokio::test]
async fn a_sampled_stream_is_counted_in_full_and_opened_in_part() {
    let (caller, mut callee) = pair(
        PeerOptions::default(),
        PeerOptions {
            role: DtlsRole::Server,
            mode: ReceiveMode::Sample { period: 4, phase: 1 },
            ..PeerOptions::default()
        },
    )
    .await;
    const PACKETS: u16 = 256;
    // The numbers begin again at once: who opens nothing before that must know it all the same.
    const FIRST: u16 = 65_530;
    for sequence in (0..PACKETS).map(|number| FIRST.wrapping_add(number)) {
        let mut packet = Packet::default();
        packet.header.version = 2;
        packet.header.sequence_number = sequence;
        packet.header.ssrc = 9;
        packet.payload = vec![1; 100].into();
        caller.send_rtp(&packet).await.expect("connected");
    }
    let sampled = |sequence: u16| sequence / 16 % 4 == 1;
    let expected = (0..PACKETS).filter(|number| sampled(FIRST.wrapping_add(*number))).count();
    let mut opened = 0;
    while opened < expected + 1 {
        match tokio::time::timeout(LIMIT, callee.recv()).await.expect("in time") {
            Some(Incoming::Rtp(arrival)) => {
                let sequence = arrival.packet.header.sequence_number;
                assert!(sequence == FIRST || sampled(sequence), "{sequence}");
                opened += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    tokio::time::timeout(LIMIT, async {
        while callee.streams().get(&9).is_none_or(|one| one.packets < u64::from(PACKETS)) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("all are counted");
    assert_eq!(callee.streams()[&9].lost(), 0);
}
