//! The forward path per packet and consumer: what a received packet costs, and what each consumer
//! adds, with and without sealing. `cargo bench -p ironcast-core --bench forward`.

mod stage;

use std::time::{Duration, Instant};

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use ironcast_core::srtp::{Sealer, SoftwareSealer};
use stage::{Media, NullSealer, Stage};

const RECEIVERS: u32 = 100;

fn receive(bencher: &mut Bencher<'_>, media: Media) {
    let mut stage = Stage::new(media, 1);
    bencher.iter_custom(|frames| {
        let mut spent = Duration::ZERO;
        for _ in 0..frames {
            stage.next_frame();
            let began = Instant::now();
            stage.receive_frame();
            spent += began.elapsed();
            stage.turn_out(&mut NullSealer);
        }
        spent
    });
}

fn forward(bencher: &mut Bencher<'_>, media: Media, sealer: &mut impl Sealer) {
    let mut stage = Stage::new(media, RECEIVERS);
    let expected = u64::from(RECEIVERS * media.packets());
    bencher.iter_custom(|frames| {
        let mut spent = Duration::ZERO;
        for _ in 0..frames {
            stage.next_frame();
            stage.receive_frame();
            let began = Instant::now();
            let sent = stage.turn_out(sealer);
            spent += began.elapsed();
            // Reports of the receivers' streams come on top, now and then.
            assert!(sent >= expected, "{sent} of {expected}");
        }
        spent
    });
}

fn path(criterion: &mut Criterion) {
    for (name, media) in [("video", Media::Video), ("audio", Media::Audio)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(media.packets().into()));
        group.bench_function("receive", |b| receive(b, media));
        group.throughput(Throughput::Elements((RECEIVERS * media.packets()).into()));
        group.bench_function("forward_unsealed", |b| forward(b, media, &mut NullSealer));
        group.bench_function("forward_sealed", |b| forward(b, media, &mut SoftwareSealer));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = path
}
criterion_main!(benches);
