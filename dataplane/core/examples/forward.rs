//! The forward path alone, for callgrind and quick looks: one publisher, N receivers, without
//! sockets. `forward [receivers] [frames] [seal|null] [video|audio|red]` prints time per packet and
//! consumer; `bench/instructions` counts instructions with it.

#[path = "../benches/stage/mod.rs"]
mod stage;

use std::time::{Duration, Instant};

use ironcast_core::srtp::SoftwareSealer;
use stage::{Media, NullSealer, Stage};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let receivers: u32 = arguments.next().map_or(300, |a| a.parse().expect("receivers"));
    let frames: u32 = arguments.next().map_or(300, |a| a.parse().expect("frames"));
    let null = arguments.next().is_some_and(|a| a == "null");
    let media = match arguments.next().as_deref() {
        Some("audio") => Media::Audio,
        Some("red") => Media::Red,
        _ => Media::Video,
    };
    let mut stage = Stage::new(media, receivers);
    let (mut sent, mut spent) = (0u64, Duration::ZERO);
    for _ in 0..frames {
        stage.next_frame();
        stage.receive_frame();
        let began = Instant::now();
        sent += if null {
            stage.turn_out(&mut NullSealer)
        } else {
            stage.turn_out(&mut SoftwareSealer)
        };
        spent += began.elapsed();
    }
    let discarded: Vec<_> = stage.worker.discards.iter().filter(|(_, count)| *count > 0).collect();
    println!(
        "{receivers} receivers, {frames} frames of {}: {sent} datagrams, {:.0} ns each; \
         dropped {discarded:?}",
        media.packets(),
        spent.as_nanos() as f64 / sent as f64
    );
}
