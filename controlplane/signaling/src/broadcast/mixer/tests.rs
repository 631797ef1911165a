//! The mixer on a clock that is moved by hand.

use ironcast_api::Id;

use super::*;

const SECOND: i64 = 1_000_000;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn target(port: u16, codec: Codec) -> Target {
    Target { port, codec, payload_type: 100, is_filled: true }
}

/// One slot for sound at port 10, one for pictures at port 20, from second 1 on.
fn mixer() -> Mixer {
    let mut mixer = Mixer::default();
    let reports = mixer.begin(&[target(10, Codec::Opus), target(20, Codec::Vp8)], SECOND);
    assert_eq!(reports.iter().map(|each| each.port).collect::<Vec<_>>(), [11, 21]);
    let known: Vec<_> = reports.iter().flat_map(|each| rtp::sender_reports(&each.bytes)).collect();
    assert!(known.iter().all(|report| report.unix_us == known[0].unix_us), "one moment for all");
    mixer
}

fn packet(ssrc: u32, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    Rtp { marker: true, sequence, timestamp, ssrc, payload }.write(96)
}

const KEY: &[u8] = &[0x10, 0x00, 1];
const DELTA: &[u8] = &[0x10, 0x01, 2];
const SOUND: &[u8] = &[0xf8, 1, 1];

fn of_port(out: &[Datagram], port: u16) -> Vec<Rtp<'_>> {
    let sent = out.iter().filter(|each| each.port == port);
    sent.map(|each| Rtp::parse(&each.bytes).unwrap()).collect()
}

/// On FFmpeg's clock, milliseconds.
fn ms(packet: &Rtp<'_>, clock_rate: i64) -> i64 {
    i64::from(packet.timestamp - TIMESTAMP_BASE) * 1_000 / clock_rate
}

#[test]
fn every_input_gets_something_all_the_time() {
    let mut mixer = mixer();
    let mut out = Vec::new();
    for now in (SECOND..4 * SECOND).step_by(10_000) {
        mixer.tick(now, &mut out);
    }
    let (sound, picture) = (of_port(&out, 10), of_port(&out, 20));
    assert!((133..=136).contains(&sound.len()), "{} pieces of 20 ms in 2.7 s", sound.len());
    assert!((26..=28).contains(&picture.len()), "{} pictures", picture.len());
    for (packets, step) in [(&sound, 960), (&picture, 9_000)] {
        for pair in packets.windows(2) {
            assert_eq!(pair[1].timestamp - pair[0].timestamp, step);
            assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        }
    }
}

#[test]
fn a_camera_begins_with_a_key_frame_and_goes_on_where_the_filler_was() {
    let mut mixer = mixer();
    mixer.add(7, id("cam"), Codec::Vp8);
    mixer.assign(&[None, Some(id("cam"))]);
    let mut out = Vec::new();
    mixer.tick(3 * SECOND, &mut out);
    let filled = of_port(&out, 20).len();
    mixer.receive(&packet(7, 100, 500, DELTA), 3 * SECOND, &mut out);
    assert_eq!(of_port(&out, 20).len(), filled, "not before a key frame");
    assert_eq!(mixer.without_key_frame(3 * SECOND), [id("cam")]);
    mixer.receive(&packet(7, 101, 3_500, KEY), 3 * SECOND + 33_000, &mut out);
    mixer.receive(&packet(7, 102, 6_500, DELTA), 3 * SECOND + 66_000, &mut out);
    assert!(mixer.without_key_frame(3 * SECOND + 66_000).is_empty());
    assert_eq!(mixer.live(), [id("cam")]);
    let all = of_port(&out, 20);
    for pair in all.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        assert!(pair[1].timestamp > pair[0].timestamp);
    }
    let times: Vec<_> = all[filled..].iter().map(|packet| ms(packet, 90_000)).collect();
    assert_eq!(times, [2_033, 2_066], "when they were captured, on FFmpeg's clock");
    // A camera that stops is a dark picture, not the last one for ever.
    out.clear();
    mixer.tick(6 * SECOND, &mut out);
    assert!(mixer.live().is_empty() && !of_port(&out, 20).is_empty());
    let first = of_port(&out, 20)[0];
    assert!(ms(&first, 90_000) > 2_066, "time does not go back");
}

#[test]
fn missing_packets_stay_missing_and_a_key_frame_is_wanted() {
    let mut mixer = mixer();
    mixer.add(7, id("cam"), Codec::Vp8);
    mixer.assign(&[None, Some(id("cam"))]);
    let mut out = Vec::new();
    mixer.receive(&packet(7, 65_534, 0, KEY), SECOND, &mut out);
    mixer.receive(&packet(7, 1, 9_000, DELTA), SECOND + 100_000, &mut out);
    let numbers: Vec<_> = of_port(&out, 20).iter().map(|packet| packet.sequence).collect();
    assert_eq!(numbers[1] - numbers[0], 3, "FFmpeg sees the gap");
    assert!(mixer.without_key_frame(SECOND + 100_000).is_empty(), "they may be late");
    assert_eq!(mixer.without_key_frame(SECOND + 500_000), [id("cam")]);
    mixer.receive(&packet(7, 0, 6_000, DELTA), SECOND + 510_000, &mut out);
    mixer.receive(&packet(7, 65_535, 3_000, DELTA), SECOND + 510_000, &mut out);
    assert!(mixer.without_key_frame(SECOND + 900_000).is_empty(), "they have come");
}

#[test]
fn sound_and_picture_are_put_in_step_by_the_reports() {
    let mut mixer = mixer();
    mixer.add(7, id("cam"), Codec::Vp8);
    mixer.add(8, id("mic"), Codec::Opus);
    mixer.assign(&[Some(id("mic")), Some(id("cam"))]);
    // Both are captured at second 2 of the sender's clock, which is 50 s ahead of ours and 100 ms
    // away. The picture takes 80 ms longer on its way.
    let mut out = Vec::new();
    for (ssrc, timestamp) in [(7, 90_000), (8, 48_000)] {
        let report = rtp::write_report(ssrc, 52 * SECOND, timestamp);
        mixer.receive(&report, 2 * SECOND + 100_000, &mut out);
    }
    mixer.receive(&packet(8, 1, 48_000, SOUND), 2 * SECOND + 110_000, &mut out);
    mixer.receive(&packet(7, 1, 90_000, KEY), 2 * SECOND + 190_000, &mut out);
    let sound = of_port(&out, 10);
    let (sound, picture) = (sound.last().unwrap(), of_port(&out, 20)[0]);
    let apart = (ms(sound, 48_000) - ms(&picture, 90_000)).abs();
    assert!(apart <= 10, "{apart} ms");
}

/// Until the first report a picture has the time of its arrival, which is later than its sound's.
#[test]
fn a_picture_that_began_too_late_is_in_step_after_the_first_report() {
    let mut mixer = mixer();
    mixer.add(7, id("cam"), Codec::Vp8);
    mixer.assign(&[None, Some(id("cam"))]);
    let mut out = Vec::new();
    for index in 0..60_u32 {
        // Captured 30 times a second, and 275 ms on its way.
        let captured = 2 * SECOND + i64::from(index) * 33_333;
        if index == 15 {
            // The clock of its sender is ours.
            mixer.receive(&rtp::write_report(99, captured, 0), captured, &mut out);
            let report = rtp::write_report(7, captured, index * 3_000);
            mixer.receive(&report, captured + 275_000, &mut out);
        }
        let payload = if index == 0 { KEY } else { DELTA };
        let sequence = u16::try_from(index).unwrap();
        let bytes = packet(7, sequence, index * 3_000, payload);
        mixer.receive(&bytes, captured + 275_000, &mut out);
    }
    let shown = of_port(&out, 20);
    assert!(shown.windows(2).all(|pair| pair[1].timestamp > pair[0].timestamp));
    let late = |index: i64, packet: &Rtp<'_>| ms(packet, 90_000) - (1_000 + index * 33_333 / 1_000);
    assert!(late(0, &shown[0]) >= 270, "as it arrived");
    let at_the_end = late(59, shown.last().unwrap());
    assert!(at_the_end.abs() <= 16, "{at_the_end} ms");
}

#[test]
fn muting_leaves_silence_of_the_right_length() {
    let mut mixer = mixer();
    mixer.add(8, id("mic"), Codec::Opus);
    mixer.assign(&[Some(id("mic")), None]);
    let mut out = Vec::new();
    let mut now = SECOND;
    for index in 0..300_u32 {
        now = SECOND + i64::from(index) * 20_000;
        // A second of nothing.
        if !(100..150).contains(&index) {
            let sequence = u16::try_from(index).unwrap();
            mixer.receive(&packet(8, sequence, index * 960, SOUND), now, &mut out);
        }
        mixer.tick(now, &mut out);
    }
    let sound = of_port(&out, 10);
    for pair in sound.windows(2) {
        assert_eq!(pair[1].timestamp - pair[0].timestamp, 960, "without a break");
    }
    assert_eq!(sound.len(), 300);
    let spoken = sound.iter().filter(|packet| packet.payload == SOUND).count();
    assert_eq!(spoken, 250);
    assert_eq!(now, SECOND + 299 * 20_000);
}

#[test]
fn a_slot_takes_only_its_own_codec() {
    let mut mixer = mixer();
    mixer.add(7, id("cam"), Codec::H264);
    mixer.assign(&[None, Some(id("cam"))]);
    let mut out = Vec::new();
    mixer.receive(&packet(7, 1, 1, &[0x67, 1]), SECOND, &mut out);
    assert!(out.is_empty());
    mixer.remove(&id("cam"));
    mixer.receive(&packet(7, 2, 1, &[0x67, 1]), SECOND, &mut out);
    assert!(out.is_empty(), "a stranger's packets go nowhere");
}
