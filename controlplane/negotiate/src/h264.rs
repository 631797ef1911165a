//! H264 profiles and levels as `profile-level-id` writes them (RFC 6184 section 8.1), and the rule
//! by which an answer chooses a level. Called by the codec matching only.

use ironcast_api::{CodecParameters, ParameterValue};

/// What a decoder must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum H264Profile {
    /// What every browser has.
    ConstrainedBaseline,
    /// With error resilience tools.
    Baseline,
    /// Main.
    Main,
    /// High without B frames.
    ConstrainedHigh,
    /// High.
    High,
    /// High 4:4:4 Predictive.
    PredictiveHigh444,
}

/// Level as `level_idc`: ten times its number. Level 1b has no number of its own, it lies between
/// 1 and 1.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum H264Level {
    /// 1
    L1,
    /// 1b
    L1b,
    /// 1.1
    L1_1,
    /// 1.2
    L1_2,
    /// 1.3
    L1_3,
    /// 2
    L2,
    /// 2.1
    L2_1,
    /// 2.2
    L2_2,
    /// 3
    L3,
    /// 3.1
    L3_1,
    /// 3.2
    L3_2,
    /// 4
    L4,
    /// 4.1
    L4_1,
    /// 4.2
    L4_2,
    /// 5
    L5,
    /// 5.1
    L5_1,
    /// 5.2
    L5_2,
}

/// Levels and their `level_idc`, except 1b, which shares 11 with level 1.1.
const LEVELS: [(H264Level, u8); 16] = [
    (H264Level::L1, 10),
    (H264Level::L1_1, 11),
    (H264Level::L1_2, 12),
    (H264Level::L1_3, 13),
    (H264Level::L2, 20),
    (H264Level::L2_1, 21),
    (H264Level::L2_2, 22),
    (H264Level::L3, 30),
    (H264Level::L3_1, 31),
    (H264Level::L3_2, 32),
    (H264Level::L4, 40),
    (H264Level::L4_1, 41),
    (H264Level::L4_2, 42),
    (H264Level::L5, 50),
    (H264Level::L5_1, 51),
    (H264Level::L5_2, 52),
];

/// `level_idc` of levels 1b and 1.1.
const LEVEL_IDC_1B: u8 = 11;

/// The bit of `profile_iop` that tells them apart.
const CONSTRAINT_SET3: u8 = 0x10;

/// A profile is what its `profile_idc` says, with `profile_iop` under a mask of a value
/// (RFC 6184 table 5; the four lowest bits are reserved and 0, except of Constrained High).
const PROFILES: [(u8, u8, u8, H264Profile); 8] = [
    // profile_idc, mask, value
    (0x42, 0b0100_1111, 0b0100_0000, H264Profile::ConstrainedBaseline),
    (0x4d, 0b1000_1111, 0b1000_0000, H264Profile::ConstrainedBaseline),
    (0x58, 0b1100_1111, 0b1100_0000, H264Profile::ConstrainedBaseline),
    (0x42, 0b0100_1111, 0b0000_0000, H264Profile::Baseline),
    (0x58, 0b1100_1111, 0b1000_0000, H264Profile::Baseline),
    (0x4d, 0b1010_1111, 0b0000_0000, H264Profile::Main),
    (0x64, 0b1111_1111, 0b0000_1100, H264Profile::ConstrainedHigh),
    (0x64, 0b1111_1111, 0b0000_0000, H264Profile::High),
];

/// `profile_idc` and `profile_iop` of High 4:4:4 Predictive.
const PREDICTIVE_HIGH_444: (u8, u8) = (0xf4, 0);

/// A profile and a level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProfileLevelId {
    /// Profile.
    pub profile: H264Profile,
    /// Level.
    pub level: H264Level,
}

impl ProfileLevelId {
    /// What a missing `profile-level-id` stands for. RFC 6184 says Baseline at level 1; browsers
    /// and mediasoup take Constrained Baseline at level 3.1.
    pub const DEFAULT: Self =
        Self { profile: H264Profile::ConstrainedBaseline, level: H264Level::L3_1 };

    /// Reads six hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 6 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let number = u32::from_str_radix(text, 16).ok()?;
        let [_, idc, iop, level_idc] = number.to_be_bytes();
        let profile = if (idc, iop) == PREDICTIVE_HIGH_444 {
            H264Profile::PredictiveHigh444
        } else {
            PROFILES
                .iter()
                .find(|(profile_idc, mask, value, _)| *profile_idc == idc && iop & mask == *value)
                .map(|(_, _, _, profile)| *profile)?
        };
        let level = if level_idc == LEVEL_IDC_1B && iop & CONSTRAINT_SET3 != 0 {
            H264Level::L1b
        } else {
            LEVELS.iter().find(|(_, idc)| *idc == level_idc).map(|(level, _)| *level)?
        };
        Some(Self { profile, level })
    }

    /// Writes six lower-case digits; `None` for level 1b of a profile that cannot say it.
    pub fn to_text(self) -> Option<String> {
        if self.level == H264Level::L1b {
            let text = match self.profile {
                H264Profile::ConstrainedBaseline => "42f00b",
                H264Profile::Baseline => "42100b",
                H264Profile::Main => "4d100b",
                _ => return None,
            };
            return Some(text.to_owned());
        }
        let profile = match self.profile {
            H264Profile::ConstrainedBaseline => "42e0",
            H264Profile::Baseline => "4200",
            H264Profile::Main => "4d00",
            H264Profile::ConstrainedHigh => "640c",
            H264Profile::High => "6400",
            H264Profile::PredictiveHigh444 => "f400",
        };
        let (_, idc) = LEVELS.iter().find(|(level, _)| *level == self.level)?;
        Some(format!("{profile}{idc:02x}"))
    }

    /// Of a codec's parameters; `None` if there is one that cannot be read.
    pub fn of(parameters: &CodecParameters) -> Option<Self> {
        match parameters.get(PROFILE_LEVEL_ID) {
            None => Some(Self::DEFAULT),
            // A client may have read `640032`, which has digits only, as a number.
            Some(ParameterValue::Number(number)) => Self::parse(&format!("{number:0>6}")),
            Some(ParameterValue::Text(text)) => Self::parse(text),
        }
    }
}

/// Name of the parameter.
pub(crate) const PROFILE_LEVEL_ID: &str = "profile-level-id";

/// Whether each side may have a level of its own (RFC 6184 section 8.1).
fn is_level_asymmetry_allowed(parameters: &CodecParameters) -> bool {
    parameters.get("level-asymmetry-allowed").and_then(ParameterValue::as_u64) == Some(1)
}

/// The `profile-level-id` that an answer carries (RFC 6184 section 8.2.2): our own level if both
/// sides allow that levels differ, the lower one otherwise. `Err` if profiles differ or cannot be
/// read; `Ok(None)` if neither side names any.
pub(crate) fn answer_profile_level_id(
    local: &CodecParameters,
    remote: &CodecParameters,
) -> Result<Option<String>, ProfileMismatch> {
    let local_id = ProfileLevelId::of(local).ok_or(ProfileMismatch)?;
    let remote_id = ProfileLevelId::of(remote).ok_or(ProfileMismatch)?;
    if local_id.profile != remote_id.profile {
        return Err(ProfileMismatch);
    }
    if !local.contains_key(PROFILE_LEVEL_ID) && !remote.contains_key(PROFILE_LEVEL_ID) {
        return Ok(None);
    }
    let asymmetric = is_level_asymmetry_allowed(local) && is_level_asymmetry_allowed(remote);
    let level = if asymmetric { local_id.level } else { local_id.level.min(remote_id.level) };
    Ok(ProfileLevelId { profile: local_id.profile, level }.to_text())
}

/// The two sides do not decode the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProfileMismatch;
