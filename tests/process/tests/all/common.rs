//! Calls that several tests begin with.

use std::time::Duration;

use ironcast_load::{
    Participant, PeerOptions, ReceiveStats, VideoOptions,
    call::{ConsumeOptions, JoinOptions, Published, Subscribed},
    http::PlainHttp,
};
use ironcast_process_tests::{LIMIT, Pair};
use serde_json::json;

/// A viewer whose network carries everything from the start, and whose checks come quickly.
pub(crate) fn good_network() -> JoinOptions {
    JoinOptions {
        peer: PeerOptions {
            consent_interval: Duration::from_millis(500),
            ..PeerOptions::default()
        },
        transport: Some(json!({ "initialAvailableOutgoingBitrate": 20_000_000 })),
        ..JoinOptions::default()
    }
}

/// A room with one who publishes a camera and one who sees it.
pub(crate) struct OneToOne {
    pub(crate) pair: Pair,
    pub(crate) alice: Participant<PlainHttp>,
    pub(crate) bob: Participant<PlainHttp>,
    pub(crate) video: Published,
    /// Number in the stamps of the lowest layer.
    pub(crate) first_stream: u32,
    pub(crate) seen: Subscribed,
}

impl OneToOne {
    /// With default processes.
    pub(crate) async fn start(video: VideoOptions, consume: &ConsumeOptions) -> Self {
        Self::start_on(Pair::start().await, video, consume).await
    }

    /// On given processes.
    pub(crate) async fn start_on(
        pair: Pair,
        video: VideoOptions,
        consume: &ConsumeOptions,
    ) -> Self {
        pair.create_room("room").await;
        let alice = pair.join_with("room", "alice", &good_network()).await;
        let bob = pair.join_with("room", "bob", &good_network()).await;
        let first_stream = video.stream;
        let video = alice.publish_video(video).await.expect("alice publishes");
        let seen = bob.consume(&video.id, consume).await.expect("bob consumes");
        Self { pair, alice, bob, video, first_stream, seen }
    }

    /// Waits for bob's figures.
    pub(crate) async fn bob_sees(
        &self,
        what: &str,
        enough: impl FnMut(&ReceiveStats) -> bool,
    ) -> ReceiveStats {
        sees(&self.bob, &self.seen, what, enough).await
    }

    /// Waits for thirty more of bob's frames; until then he has missed nothing.
    pub(crate) async fn goes_on(&self) {
        let frames = self.bob.stats(&self.seen).decodable_frames;
        let more = |stats: &ReceiveStats| stats.decodable_frames > frames + 30;
        assert_clean(&self.bob_sees("the call goes on", more).await);
    }
}

/// Waits for the figures of a received track.
pub(crate) async fn sees(
    who: &Participant<PlainHttp>,
    track: &Subscribed,
    what: &str,
    enough: impl FnMut(&ReceiveStats) -> bool,
) -> ReceiveStats {
    match who.receive.session.wait_for(track.ssrc, LIMIT, enough).await {
        Ok(stats) => stats,
        Err(stats) => panic!("{} never saw {what}: {}", who.id, brief(&stats)),
    }
}

/// What matters of the figures, for messages.
pub(crate) fn brief(stats: &ReceiveStats) -> String {
    format!(
        "packets {} lost {} recovered {} rtx {} duplicates {} frames {} decodable {} key {} \
         broken {} corrupt {} foreign {} stream {:?} temporal {} reports {} switches {:?} \
         anomalies {:?}",
        stats.packets,
        stats.lost,
        stats.recovered,
        stats.rtx_packets,
        stats.duplicates,
        stats.frames,
        stats.decodable_frames,
        stats.key_frames,
        stats.broken_frames,
        stats.corrupt,
        stats.foreign,
        stats.stream,
        stats.temporal,
        stats.sender_reports,
        stats.switches,
        stats.anomalies,
    )
}

/// Nothing lost, changed, doubled or out of step.
pub(crate) fn assert_clean(stats: &ReceiveStats) {
    let wrong = stats.lost + stats.corrupt + stats.foreign + stats.duplicates;
    assert!(wrong == 0 && stats.anomalies.is_empty(), "not clean: {}", brief(stats));
}
