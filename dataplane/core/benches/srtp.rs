//! Sealing and opening one packet with each suite, of audio's and of video's size.
//! `cargo bench -p ironcast-core --bench srtp`.

use std::{hint::black_box, time::Duration};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ironcast_core::{
    numbers::PacketIndex,
    srtp::{MasterKey, OpenKey, RTP_TAG_BYTES_MAX, SealKey, Suite},
};

const HEADER_BYTES: usize = 20;

fn packet(bytes: usize) -> Vec<u8> {
    let mut packet = vec![0x5a; bytes + RTP_TAG_BYTES_MAX];
    packet[0] = 0x80;
    packet
}

fn srtp(criterion: &mut Criterion) {
    for suite in Suite::ALL {
        let (key, salt) = (vec![1; suite.key_len()], vec![2; suite.salt_len()]);
        let master = MasterKey::new(suite, &key, &salt).expect("the suite's lengths");
        let (seal, open) = (SealKey::new(&master), OpenKey::new(&master));
        let mut group = criterion.benchmark_group(suite.name());
        for bytes in [160, 1_200] {
            group.throughput(Throughput::Bytes(bytes as u64));
            let mut plain = packet(bytes);
            let mut index = 0;
            group.bench_function(BenchmarkId::new("seal", bytes), |b| {
                b.iter(|| {
                    index += 1;
                    seal.seal_rtp(
                        &mut plain,
                        HEADER_BYTES,
                        bytes - HEADER_BYTES,
                        PacketIndex(index),
                    )
                });
            });
            let mut sealed = packet(bytes);
            let len =
                seal.seal_rtp(&mut sealed, HEADER_BYTES, bytes - HEADER_BYTES, PacketIndex(7));
            sealed.truncate(len);
            group.bench_function(BenchmarkId::new("open", bytes), |b| {
                b.iter_batched_ref(
                    || sealed.clone(),
                    |copy| {
                        open.open_rtp(black_box(copy), HEADER_BYTES, PacketIndex(7))
                            .expect("the right tag")
                    },
                    BatchSize::SmallInput,
                );
            });
            let mut out = packet(bytes);
            group.bench_function(BenchmarkId::new("open_into", bytes), |b| {
                b.iter(|| {
                    open.open_rtp_into(black_box(&sealed), HEADER_BYTES, PacketIndex(7), &mut out)
                        .expect("the right tag")
                });
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(1));
    targets = srtp
}
criterion_main!(benches);
