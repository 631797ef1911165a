//! Scalability modes (W3C webrtc-svc): how many spatial and temporal layers a stream has.

/// Layers of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalabilityMode {
    /// Spatial layers, at least 1.
    pub spatial_layers: u8,
    /// Temporal layers, at least 1.
    pub temporal_layers: u8,
    /// Spatial layers depend on each other at key frames only.
    pub ksvc: bool,
}

impl ScalabilityMode {
    const SINGLE: Self = Self { spatial_layers: 1, temporal_layers: 1, ksvc: false };
}

/// Reads `L1T3`, `S3T3`, `L3T3_KEY`, ...; what does not begin like one has one layer, as with
/// mediasoup. What follows the layers is ignored, except `_KEY`.
pub fn parse_scalability_mode(text: &str) -> ScalabilityMode {
    parse(text).unwrap_or(ScalabilityMode::SINGLE)
}

fn parse(text: &str) -> Option<ScalabilityMode> {
    let rest = text.strip_prefix(['L', 'S'])?;
    let (spatial_layers, rest) = layers(rest)?;
    let (temporal_layers, rest) = layers(rest.strip_prefix('T')?)?;
    Some(ScalabilityMode { spatial_layers, temporal_layers, ksvc: rest.starts_with("_KEY") })
}

/// One or two digits, not beginning with 0.
fn layers(text: &str) -> Option<(u8, &str)> {
    let digits = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(digits);
    if number.starts_with('0') {
        return None;
    }
    Some((number.parse().ok()?, rest))
}
