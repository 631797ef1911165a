//! A receiver whose network carries little: audio first, then as many videos as fit; the others are
//! paused and said to be, none is drowned, and they come back when there is room.

use ironcast_core::{MS, Nanos, SECOND, wire::Codec};
use ironcast_protocol::{
    Event,
    command::{SetPriority, SetTransportBitrates},
    event::LayersReason,
    media::Layers,
};
use ironcast_sim::{World, estimate::Estimate, world::Want};

/// Bits per second of the microphone, headers included; and of the lowest layer of each camera.
const MIC_BPS: u64 = 40_000;
const CAMERA_BPS: u64 = 47_000;

struct Call {
    world: World,
    bob: usize,
    mic: u32,
    cameras: Vec<u32>,
}

/// Everybody has a camera of two layers, the first one a microphone, too; Bob gets it all.
fn call(seed: u64, cameras: usize) -> Call {
    let mut world = World::new(seed);
    let bob = world.join("bob");
    let mut call = Call { bob, mic: 0, cameras: Vec::new(), world };
    for camera in 0..cameras {
        let world = &mut call.world;
        let peer = world.join(&format!("peer {camera}"));
        if camera == 0 {
            world.publish_audio(peer, "mic").sources[0].payload_len = 60;
            let want = Want { rtx: false, ..Want::default() };
            call.mic = world.consume_as(bob, "mic", want).0;
        }
        let id = format!("camera {camera}");
        let mut track = world.simulcast(&id, 2);
        (track.temporal_layers, track.interval) = (1, SECOND / 15);
        (track.sources[0].payload_len, track.sources[1].payload_len) = (350, 900);
        world.publish(peer, track);
        call.cameras.push(world.consume(bob, &id));
    }
    call
}

impl Call {
    fn limit(&mut self, bps: u32) {
        let now = self.world.now;
        let set = SetTransportBitrates {
            id: "bob".into(),
            max_outgoing_bps: Some(bps),
            ..SetTransportBitrates::default()
        };
        self.world.worker().apply_bitrates(&set, now).unwrap();
    }

    /// What was said last of each camera.
    fn said(&self) -> Vec<Option<(Option<Layers>, LayersReason)>> {
        let id = |at| format!("bob/camera {at}");
        let last = |at| {
            self.world.events.iter().rev().find_map(|(_, event)| match event {
                Event::ConsumerLayersChange { consumer, layers, reason }
                    if consumer.as_str() == id(at) =>
                {
                    Some((*layers, *reason))
                }
                _ => None,
            })
        };
        (0..self.cameras.len()).map(last).collect()
    }

    fn shown(&self) -> Vec<bool> {
        let said = self.said();
        said.iter().map(|said| said.is_some_and(|(layers, _)| layers.is_some())).collect()
    }

    /// Packets of a stream since then.
    fn packets(&self, ssrc: u32, since: Nanos) -> usize {
        let inbox = self.world.peers[self.bob].inbox(ssrc);
        inbox.got.values().filter(|got| got.at > since).count()
    }

    /// Audio of these seconds is here and in time, and of each camera there is what was said.
    fn assert_nothing_drowns(&self, what: &str, since: Nanos) {
        let span = self.world.now - since;
        let inbox = self.world.peers[self.bob].inbox(self.mic);
        let got: Vec<_> = inbox.got.values().filter(|got| got.body.captured > since).collect();
        let expected = (span / (20 * MS)) as usize;
        assert!(got.len() * 100 >= expected * 97, "{what}: audio {} of {expected}", got.len());
        let late = got.iter().filter(|got| got.at > got.body.captured + 250 * MS).count();
        assert!(late * 20 <= got.len(), "{what}: {late} of {} late", got.len());
        for (camera, (&ssrc, shown)) in self.cameras.iter().zip(self.shown()).enumerate() {
            let packets = self.packets(ssrc, since);
            let frames = (span / (SECOND / 15)) as usize;
            if shown {
                assert!(packets * 10 >= frames * 9, "{what}: camera {camera}: {packets}");
            } else {
                assert_eq!(packets, 0, "{what}: camera {camera}");
                let said = self.said()[camera];
                assert_eq!(said, Some((None, LayersReason::Bandwidth)), "{what}: {camera}");
            }
        }
    }
}

#[test]
fn under_a_limit_of_the_api_as_many_videos_are_sent_as_fit_beside_audio() {
    for (seed, kbps) in [(800, 80), (801, 150), (802, 300)] {
        for cameras in 1..=6 {
            let mut call = call(seed, cameras);
            call.limit(kbps * 1_000);
            call.world.run(4 * SECOND);
            let since = call.world.now;
            call.world.run(10 * SECOND);
            let what = format!("{kbps} kb/s, {cameras} cameras");
            call.assert_nothing_drowns(&what, since);
            let room = u64::from(kbps) * 1_000 - MIC_BPS;
            let fit = (room / CAMERA_BPS).min(cameras as u64) as usize;
            let shown = call.shown().iter().filter(|shown| **shown).count();
            assert_eq!(shown, fit, "{what}");
            call.limit(0);
            call.world.run(5 * SECOND);
            assert!(call.shown().iter().all(|shown| *shown), "{what}: {:?}", call.said());
            call.world.assert_no_faults();
        }
    }
}

/// The network itself is thin: what it carries is learned from the receiver's estimates.
#[test]
fn on_a_thin_line_audio_is_in_time_and_what_does_not_fit_is_paused() {
    for (seed, kbps) in [(810, 80), (811, 150), (812, 300)] {
        for cameras in [1, 3, 6] {
            let mut call = call(seed, cameras);
            let bob = call.bob;
            call.world.peers[bob].estimate = Some(Estimate::default());
            call.world.peers[bob].down.network.rate_bps = kbps * 1_000;
            call.world.run(30 * SECOND);
            let (since, said) = (call.world.now, call.world.events.len());
            call.world.run(60 * SECOND);
            let what = format!("{kbps} kb/s, {cameras} cameras");
            let inbox = call.world.peers[bob].inbox(call.mic);
            let audio: Vec<_> = inbox.got.values().filter(|g| g.body.captured > since).collect();
            let late = audio.iter().filter(|g| g.at > g.body.captured + 300 * MS).count();
            assert!(audio.len() > 2_850, "{what}: {} packets of audio", audio.len());
            assert!(late * 10 < audio.len(), "{what}: {late} of {} late", audio.len());
            // Video where there is room for it, and no flapping.
            let frames: usize = call.cameras.iter().map(|ssrc| call.packets(*ssrc, since)).sum();
            let fits = kbps * 1_000 > 2 * (MIC_BPS + CAMERA_BPS);
            assert!(!fits || frames > 700, "{what}: {frames} frames");
            let changes = call.world.events[said..]
                .iter()
                .filter(|(_, event)| matches!(event, Event::ConsumerLayersChange { .. }));
            let changes = changes.count();
            assert!(changes <= 8 * cameras, "{what}: it flaps");
            // Back when the line is good.
            call.world.peers[bob].down.network.rate_bps = 0;
            let all = |call: &Call| call.shown().iter().all(|shown| *shown);
            for _ in 0..60 {
                call.world.run(SECOND);
                if all(&call) {
                    break;
                }
            }
            assert!(all(&call), "{what}: {:?}", call.said());
            call.world.assert_no_faults();
        }
    }
}

#[test]
fn the_video_of_the_highest_priority_is_the_one_that_is_sent() {
    let mut call = call(820, 4);
    call.limit(100_000);
    for chosen in [2, 0, 3] {
        for camera in 0..4 {
            let priority = if camera == chosen { 200 } else { 1 };
            let set = SetPriority { id: format!("bob/camera {camera}"), priority };
            let now = call.world.now;
            call.world.worker().apply_priority(&set, now).unwrap();
        }
        call.world.run(4 * SECOND);
        let expected: Vec<bool> = (0..4).map(|camera| camera == chosen).collect();
        assert_eq!(call.shown(), expected);
    }
}

/// A track without layers has no layers to tell, but whether it is sent.
#[test]
fn a_video_without_layers_is_said_to_be_paused_and_to_be_back() {
    let mut world = World::new(830);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(3 * SECOND);
    assert_eq!(world.events.iter().filter(|(_, e)| is_layers(e)).count(), 0);
    let mut call = Call { world, bob, mic: 0, cameras: vec![ssrc] };
    for (limit, is_sent) in [(100_000, false), (0, true)] {
        call.limit(limit);
        call.world.run(3 * SECOND);
        let since = call.world.now;
        call.world.run(2 * SECOND);
        assert_eq!(call.packets(ssrc, since) > 0, is_sent);
        let events = call.world.events.iter();
        let said: Vec<_> = events.filter(|(_, e)| is_layers(e)).map(|(_, e)| e.clone()).collect();
        let last = said.last().unwrap();
        let Event::ConsumerLayersChange { layers, reason, .. } = last else { panic!("{last:?}") };
        assert_eq!(layers.is_some(), is_sent);
        assert_eq!(*reason == LayersReason::Bandwidth, !is_sent);
    }
    call.world.assert_no_faults();
    assert_eq!(call.world.peers[bob].inbox(ssrc).holes(), []);
    // A viewer that gets nothing does not have the publisher make key frames.
    call.limit(100_000);
    call.world.run(SECOND);
    let asked = call.world.peers[alice].tracks[0].sources[0].asked.len();
    for _ in 0..5 {
        let report = call.world.peers[bob].seal_rtcp(|w| w.picture_loss(1, ssrc));
        call.world.send(bob, report);
        call.world.run(SECOND);
    }
    assert_eq!(call.world.peers[alice].tracks[0].sources[0].asked.len(), asked);
}

fn is_layers(event: &Event) -> bool {
    matches!(event, Event::ConsumerLayersChange { .. })
}
