//! The client's clocks: monotonic nanoseconds since the process began (in payloads and arrival
//! stamps, so that a delay is one subtraction) and the wall time of sender reports.

use std::{
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_OFFSET_S: u64 = 2_208_988_800;

/// Monotonic nanoseconds since the first call in this process.
#[must_use]
pub fn now_ns() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// A moment of the wall clock (since 1970, as the kernel stamps arrivals) on the clock of [`now_ns`].
#[must_use]
pub fn of_wall(at: Duration) -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ago = wall.saturating_sub(at).as_nanos() as u64;
    now_ns().saturating_sub(ago)
}

/// Wall time as a 64-bit NTP timestamp (RFC 5905: seconds, then fractions).
#[must_use]
pub fn ntp_now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    ((now.as_secs() + NTP_OFFSET_S) << 32) | fraction
}

/// 64-bit NTP time as seconds since 1900.
#[must_use]
pub fn ntp_seconds(ntp: u64) -> f64 {
    (ntp >> 32) as f64 + (ntp & 0xFFFF_FFFF) as f64 / 4_294_967_296.0
}

/// The middle 32 bits, as reports carry them (RFC 3550 section 4).
#[must_use]
pub fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// `abs-send-time`: 24 bits, 6.18 fixed point seconds.
#[must_use]
pub fn abs_send_time(ntp: u64) -> [u8; 3] {
    let value = ((ntp >> 14) & 0x00FF_FFFF) as u32;
    [(value >> 16) as u8, (value >> 8) as u8, value as u8]
}
