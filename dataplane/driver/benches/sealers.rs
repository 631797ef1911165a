//! What sealing one packet costs with the core's own sealer and with Intel's IPsec-MB library: 64
//! transports with 10 packets each, handed over as the worker does it.
//! `cargo bench -p ironcast-driver --features ipsec-mb --bench sealers`.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ironcast_core::{
    batch::{SLAB_BYTES, Slab},
    numbers::PacketIndex,
    srtp::{MasterKey, RTP_TAG_BYTES_MAX, SealJob, SealKey, Sealer, SoftwareSealer, Suite},
};
use ironcast_driver::ipsec_mb::MultiBufferSealer;

const KEYS: u32 = 64;
const PACKETS: u32 = 10;
const HEADER_BYTES: u16 = 20;

struct Turn {
    keys: Vec<SealKey>,
    jobs: Vec<SealJob>,
    slabs: Vec<Slab>,
}

impl Turn {
    fn new(suite: Suite, bytes: u16) -> Self {
        let key = |number: u32| {
            let (key, salt) = (vec![number as u8; suite.key_len()], vec![2; suite.salt_len()]);
            SealKey::new(&MasterKey::new(suite, &key, &salt).expect("the suite's lengths"))
        };
        let each = u32::from(bytes) + RTP_TAG_BYTES_MAX as u32;
        let in_slab = SLAB_BYTES as u32 / each;
        let jobs = (0..KEYS * PACKETS).map(|number| SealJob {
            transport: number / PACKETS,
            slab: number / in_slab,
            offset: number % in_slab * each,
            header_len: HEADER_BYTES,
            payload_len: bytes - HEADER_BYTES,
            index: PacketIndex(number.into()),
        });
        let slab = |_| Slab { bytes: vec![0x5a; SLAB_BYTES].into_boxed_slice() };
        Self {
            keys: (0..KEYS).map(key).collect(),
            jobs: jobs.collect(),
            slabs: (0..(KEYS * PACKETS).div_ceil(in_slab)).map(slab).collect(),
        }
    }

    /// The worker asks after each transport, and whenever enough came together.
    fn seal<S: Sealer>(&mut self, sealer: &mut S) {
        let portion = S::JOBS_WANTED.next_multiple_of(PACKETS as usize);
        for jobs in self.jobs.chunks(portion) {
            assert_eq!(sealer.seal(&self.keys[..], jobs, &mut self.slabs), 0);
        }
    }
}

fn sealers(criterion: &mut Criterion) {
    let mut library = MultiBufferSealer::new().expect("AES instructions");
    for suite in [Suite::AesCm128HmacSha1_80, Suite::AeadAes128Gcm, Suite::AeadAes256Gcm] {
        let mut group = criterion.benchmark_group(suite.name());
        group.throughput(Throughput::Elements((KEYS * PACKETS).into()));
        for bytes in [160, 1_200] {
            let mut turn = Turn::new(suite, bytes);
            group.bench_function(BenchmarkId::new("software", bytes), |b| {
                b.iter(|| turn.seal(&mut SoftwareSealer));
            });
            group.bench_function(BenchmarkId::new("ipsec_mb", bytes), |b| {
                b.iter(|| turn.seal(&mut library));
            });
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_secs(2));
    targets = sealers
}
criterion_main!(benches);
