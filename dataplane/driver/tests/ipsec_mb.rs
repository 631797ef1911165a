//! The sealer of Intel's library gives the same bytes and the same refusals as the core's own, which
//! published vectors and an independent stack have judged.
//! `cargo test -p ironcast-driver --features ipsec-mb --test ipsec_mb`.

use ironcast_core::{
    batch::{SLAB_BYTES, Slab},
    numbers::PacketIndex,
    srtp::{
        KeySource, MasterKey, RTP_TAG_BYTES_MAX, SealJob, SealKey, Sealer, SoftwareSealer, Suite,
    },
};
use ironcast_driver::ipsec_mb::MultiBufferSealer;

/// Keys that come and go.
struct Keys(Vec<Option<SealKey>>);

impl KeySource for Keys {
    fn seal_key(&self, transport: u32) -> Option<&SealKey> {
        self.0.get(transport as usize)?.as_ref()
    }
}

fn key(suite: Suite, seed: u8) -> SealKey {
    let bytes: Vec<u8> = (0..46u8).map(|at| at.wrapping_mul(29) ^ seed).collect();
    let (key, salt) = bytes.split_at(suite.key_len());
    SealKey::new(&MasterKey::new(suite, key, &salt[..suite.salt_len()]).unwrap())
}

/// Four suites in turn.
fn keys(count: usize) -> Keys {
    Keys((0..count).map(|n| Some(key(Suite::ALL[n % Suite::ALL.len()], n as u8))).collect())
}

/// Lays packets one behind the other, as the core does.
#[derive(Default)]
struct Layout {
    jobs: Vec<SealJob>,
    slab: u32,
    offset: u32,
}

impl Layout {
    fn add(&mut self, transport: u32, header_len: u16, payload_len: u16) {
        let len = u32::from(header_len + payload_len) + RTP_TAG_BYTES_MAX as u32;
        if self.offset + len > SLAB_BYTES as u32 {
            (self.slab, self.offset) = (self.slab + 1, 0);
        }
        let index = PacketIndex(0x2_fff0 + self.jobs.len() as u64);
        let (slab, offset) = (self.slab, self.offset);
        self.jobs.push(SealJob { transport, slab, offset, header_len, payload_len, index });
        self.offset += len;
    }

    fn slabs(&self) -> Vec<Slab> {
        let slab = |id: u32| {
            let byte = |at: usize| (at.wrapping_mul(31) >> 3) as u8 ^ id as u8;
            Slab { bytes: (0..SLAB_BYTES).map(byte).collect() }
        };
        (0..=self.slab).map(slab).collect()
    }
}

/// Both seal the same; returns how many were refused.
fn compare(library: &mut MultiBufferSealer, keys: &Keys, layout: &Layout) -> usize {
    let (mut ours, mut theirs) = (layout.slabs(), layout.slabs());
    let refused = SoftwareSealer.seal(keys, &layout.jobs, &mut ours);
    assert_eq!(library.seal(keys, &layout.jobs, &mut theirs), refused);
    for job in &layout.jobs {
        let Some(slab) = ours.get(job.slab as usize) else { continue };
        let suite = keys.seal_key(job.transport).map(SealKey::suite);
        let len = usize::from(job.header_len + job.payload_len) + RTP_TAG_BYTES_MAX;
        let from = (job.offset as usize).min(SLAB_BYTES);
        let part = |slab: &Slab| slab.bytes[from..(from + len).min(SLAB_BYTES)].to_vec();
        assert_eq!(part(slab), part(&theirs[job.slab as usize]), "{suite:?} {job:?}");
    }
    // Nor was anything else touched.
    assert!(ours.iter().zip(&theirs).all(|(a, b)| a.bytes == b.bytes));
    refused
}

#[test]
fn every_suite_and_every_size_gives_the_same_bytes() {
    let mut library = MultiBufferSealer::new().unwrap();
    let keys = keys(40);
    let mut layout = Layout::default();
    for payload_len in 0..=1_400 {
        for suite in 0..4u32 {
            let transport = suite + 4 * (u32::from(payload_len) % 10);
            layout.add(transport, 12 + 4 * (payload_len % 9), payload_len);
        }
    }
    assert_eq!(compare(&mut library, &keys, &layout), 0);
    let plain = layout.slabs();
    let mut sealed = layout.slabs();
    library.seal(&keys, &layout.jobs, &mut sealed);
    assert!(plain.iter().zip(&sealed).all(|(a, b)| a.bytes != b.bytes), "something was sealed");
}

#[test]
fn batches_of_any_length_and_mixture_give_the_same_bytes() {
    let mut library = MultiBufferSealer::new().unwrap();
    let keys = keys(300);
    let mut state = 1u32;
    let mut random = |below: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % below
    };
    for count in 0..200 {
        let mut layout = Layout::default();
        let run = 1 + random(12);
        let mut transport = 0;
        for packet in 0..count {
            if packet % run == 0 {
                transport = random(300);
            }
            let payload_len = if random(3) == 0 { 1_180 } else { random(1_400) as u16 };
            layout.add(transport, 12 + 4 * random(8) as u16, payload_len);
        }
        assert_eq!(compare(&mut library, &keys, &layout), 0);
    }
}

#[test]
fn what_cannot_be_sealed_is_refused_in_the_same_way() {
    let mut library = MultiBufferSealer::new().unwrap();
    let mut keys = keys(8);
    keys.0[5] = None;
    let mut layout = Layout::default();
    // Without a key, with a header that is none, without a payload; and right ones around them.
    for (transport, header_len, payload_len) in [
        (2, 20, 100),
        (5, 20, 100),
        (99, 20, 100),
        (0, 8, 100),
        (2, 11, 100),
        (3, 12, 0),
        (0, 12, 0),
    ] {
        layout.add(transport, header_len, payload_len);
        layout.add(1, 20, 200);
    }
    let right = layout.jobs[0];
    let end = SLAB_BYTES as u32;
    for (slab, offset) in [(7, 0), (0, end), (0, end - 120), (0, end + 1), (0, u32::MAX)] {
        layout.jobs.push(SealJob { slab, offset, ..right });
    }
    layout.add(2, 20, 300);
    assert_eq!(compare(&mut library, &keys, &layout), 9);
    // A tag of 10 bytes fits to the byte where one of 16 does not.
    layout.jobs = vec![SealJob { offset: end - 130, ..right }];
    assert_eq!(compare(&mut library, &keys, &layout), 0);
    layout.jobs[0].transport = 0;
    assert_eq!(compare(&mut library, &keys, &layout), 1);
}

#[test]
fn a_number_that_gets_another_key_is_sealed_with_that() {
    let mut library = MultiBufferSealer::new().unwrap();
    let mut keys = keys(3);
    let mut layout = Layout::default();
    for number in 0..30 {
        layout.add(number % 3, 20, 400);
    }
    assert_eq!(compare(&mut library, &keys, &layout), 0);
    for (round, suite) in Suite::ALL.into_iter().cycle().take(9).enumerate() {
        keys.0[1] = Some(key(suite, 100 + round as u8));
        assert_eq!(compare(&mut library, &keys, &layout), 0);
        keys.0[1] = None;
        assert_eq!(compare(&mut library, &keys, &layout), 10);
    }
}
