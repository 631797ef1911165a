//! A call of a week: what is remembered of it is bounded, and right to the end.

use ironcast_core::{MS, SECOND, figures::Remembered, wire::Codec};
use ironcast_sim::{World, world::Want};

/// Minutes of a week.
const MINUTES: u32 = 7 * 24 * 60;

/// A camera is switched on and off every minute: each time a new producer with new SSRCs, a new
/// consumer, and reports of new senders. Of each minute a moment is lived, the rest is silence.
#[test]
fn a_camera_that_is_switched_on_and_off_for_a_week() {
    let mut world = World::new(990);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    // Consent lasts through the silence.
    (world.peers[alice].reports, world.peers[bob].reports) = (true, true);
    world.run(SECOND);
    let mut most = None;
    for minute in 0..MINUTES {
        let id = format!("camera {minute}");
        let track = world.publish_video(alice, &id, Codec::Vp8);
        track.interval = 50 * MS;
        track.sources[0].index = u64::from(minute.wrapping_mul(7_919) % 65_536);
        let want = Want { ssrc: Some(1_000_000 + 2 * minute), ..Want::default() };
        let (ssrc, _) = world.consume_as(bob, &id, want);
        world.run(300 * MS);
        // Bob asks again for what he has.
        let newest = *world.peers[bob].inbox(ssrc).got.keys().next_back().unwrap() as u16;
        let nack = world.peers[bob].seal_rtcp(|w| w.nack(200_000 + minute, ssrc, &[newest]));
        world.send(bob, nack);
        // Reports about this camera, as its sender and by its receiver.
        let report = world.peers[bob].seal_rtcp(|w| w.picture_loss(200_000 + minute, ssrc));
        world.send(bob, report);
        world.run(100 * MS);
        let frames = world.peers[bob].inbox(ssrc).frames().len();
        assert!(frames >= 4, "minute {minute}: {frames} frames");
        world.assert_no_faults();
        let now = world.now;
        let asked = world.worker().consumer_stats(&format!("bob/{id}"), now).unwrap();
        assert_eq!(asked.outbound.pli_count, 1, "minute {minute}: the report was not heard");
        assert_eq!(asked.outbound.packets_retransmitted, 1, "minute {minute}");
        let resends = world.worker().remembered("bob").unwrap().resends;
        assert!((1..=64).contains(&resends), "minute {minute}: {resends}");
        world.worker().apply_close_producer(&id).unwrap();
        world.peers[alice].tracks.clear();
        world.peers[bob].inboxes.clear();
        world.forget();
        let (a, b) = ("alice", "bob");
        let remembered = [a, b].map(|id| world.worker().remembered(id).unwrap());
        let sum = |f: fn(&Remembered) -> usize| remembered.iter().map(f).sum::<usize>();
        let sources = (sum(|r| r.sources), sum(|r| r.early_numbers), sum(|r| r.rtcp_senders));
        let sent = (sum(|r| r.retired), sum(|r| r.resends));
        most = most.max(Some((sources, sent)));
        assert!(world.counter("history_packets") == 0, "minute {minute}");
        world.run(600 * MS);
    }
    let ((sources, early, senders), (retired, resends)) = most.unwrap();
    assert!(sources <= 512 && early == 0 && senders <= 2 * 5_120, "{sources} {early} {senders}");
    assert!(retired <= 130 && resends == 0, "{retired} {resends}");
    // As much is left as at the beginning.
    let stats = world.worker().worker_stats();
    assert_eq!((stats.transports, stats.producers, stats.consumers), (2, 0, 0));
}
