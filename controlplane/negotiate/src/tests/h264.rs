//! `profile-level-id` (RFC 6184 section 8.1): known values, and the level of an answer.

use ironcast_api::CodecParameters;
use serde_json::json;

use super::read;
use crate::h264::{ProfileMismatch, answer_profile_level_id};
use crate::{H264Level as Level, H264Profile as Profile, ProfileLevelId};

#[test]
fn reads_what_browsers_write() {
    let cases = [
        ("42e01f", Profile::ConstrainedBaseline, Level::L3_1),
        ("42E01F", Profile::ConstrainedBaseline, Level::L3_1),
        ("42c02a", Profile::ConstrainedBaseline, Level::L4_2),
        ("4de01f", Profile::ConstrainedBaseline, Level::L3_1),
        ("58f01f", Profile::ConstrainedBaseline, Level::L3_1),
        ("42a01f", Profile::Baseline, Level::L3_1),
        ("42001f", Profile::Baseline, Level::L3_1),
        ("58a01f", Profile::Baseline, Level::L3_1),
        ("4d0032", Profile::Main, Level::L5),
        ("4d401f", Profile::Main, Level::L3_1),
        ("64001f", Profile::High, Level::L3_1),
        ("640c1f", Profile::ConstrainedHigh, Level::L3_1),
        ("640c34", Profile::ConstrainedHigh, Level::L5_2),
        ("f4001f", Profile::PredictiveHigh444, Level::L3_1),
        ("42f00b", Profile::ConstrainedBaseline, Level::L1b),
        ("42100b", Profile::Baseline, Level::L1b),
        ("42e00b", Profile::ConstrainedBaseline, Level::L1_1),
    ];
    for (text, profile, level) in cases {
        assert_eq!(ProfileLevelId::parse(text), Some(ProfileLevelId { profile, level }), "{text}");
    }
}

#[test]
fn refuses_what_is_none() {
    for text in
        ["", "42e01", "42e01f0", "gggggg", "000000", "42e000", "42e0ff", "42e11f", "+2e01f", "é2e0"]
    {
        assert_eq!(ProfileLevelId::parse(text), None, "{text}");
    }
}

#[test]
fn writes_what_it_reads() {
    for text in ["42e01f", "42001f", "4d0032", "64001f", "640c1f", "f4001f", "42f00b", "42100b"] {
        let id = ProfileLevelId::parse(text).expect("a known id");
        assert_eq!(id.to_text().as_deref(), Some(text));
    }
    let id = ProfileLevelId { profile: Profile::High, level: Level::L1b };
    assert_eq!(id.to_text(), None);
}

#[test]
fn level_1b_lies_between_1_and_1_1() {
    assert!(Level::L1 < Level::L1b && Level::L1b < Level::L1_1);
}

fn parameters(id: Option<&str>, asymmetry: bool) -> CodecParameters {
    let mut value = json!({ "level-asymmetry-allowed": u8::from(asymmetry) });
    if let Some(id) = id {
        value["profile-level-id"] = id.into();
    }
    read(&value)
}

#[test]
fn an_answer_takes_the_lower_level_unless_both_allow_asymmetry() {
    let answer = |a: Option<&str>, a_free, b: Option<&str>, b_free| {
        answer_profile_level_id(&parameters(a, a_free), &parameters(b, b_free))
    };
    let (low, high) = (Some("42e015"), Some("42e01f"));
    assert_eq!(answer(high, true, low, true), Ok(Some("42e01f".to_owned())));
    assert_eq!(answer(low, true, high, true), Ok(Some("42e015".to_owned())));
    assert_eq!(answer(high, true, low, false), Ok(Some("42e015".to_owned())));
    assert_eq!(answer(low, false, high, true), Ok(Some("42e015".to_owned())));
    assert_eq!(answer(None, true, None, true), Ok(None));
    assert_eq!(answer(None, false, low, false), Ok(Some("42e015".to_owned())));
    assert_eq!(answer(high, true, Some("4d001f"), true), Err(ProfileMismatch));
    assert_eq!(answer(high, true, Some("nonono"), true), Err(ProfileMismatch));
}

#[test]
fn digits_read_as_a_number_are_still_an_id() {
    let parameters: CodecParameters = read(&json!({ "profile-level-id": 640032 }));
    let id = ProfileLevelId::of(&parameters);
    assert_eq!(id, Some(ProfileLevelId { profile: Profile::High, level: Level::L5 }));
}
