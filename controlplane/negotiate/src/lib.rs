//! ORTC negotiation as pure functions: what a router can do, what a producer really sends, and
//! what a consumer with certain capabilities gets of it. Names and behaviour are those of
//! mediasoup's `ortc` module, so that mediasoup-client can be the other side, unchanged.
//!
//! The control plane calls [`generate_router_rtp_capabilities`] once for a router,
//! [`negotiate_producer`] once for a producer, [`can_consume`] and [`get_consumer_rtp_parameters`]
//! for each consumer, and hands the results to the dataplane, which negotiates nothing.
//!
//! Nothing in here has state, a clock or randomness: SSRCs, MIDs and CNAMEs are arguments. All
//! input may be hostile: it is refused with a [`NegotiateError`] that names the field, never with a
//! panic.
//!
//! Where it differs from mediasoup, on purpose: transport-wide feedback is not offered to receivers
//! yet; a consumer has RTX only if the receiver has it for that very codec; payload types that
//! codecs ask for are never given to others before them; AV1 profiles must agree; payload types
//! that look like RTCP are refused; a router may have RED (RFC 2198) around its Opus.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod codecs;
mod consumer;
mod error;
mod h264;
mod producer;
mod router;
mod scalability;
mod supported;
mod validate;

pub use consumer::{
    ConsumerIdentity, ConsumerOptions, PipeIdentity, can_consume, default_enable_rtx,
    derive_consumer_type, get_consumer_rtp_parameters, get_pipe_consumer_rtp_parameters,
    normalize_preferred_layers,
};
pub use error::{Fault, NegotiateError, Unsupported};
pub use h264::{H264Level, H264Profile, ProfileLevelId};
pub use producer::{
    CodecMapping, EncodingMapping, NegotiatedProducer, RtpMapping, derive_producer_type,
    get_consumable_rtp_parameters, get_producer_rtp_parameters_mapping, negotiate_producer,
};
pub use router::generate_router_rtp_capabilities;
pub use scalability::{ScalabilityMode, parse_scalability_mode};
pub use supported::{default_media_codecs, supported_rtp_capabilities, uri};
pub use validate::{
    RTP_PARAMETERS_BYTES_MAX, ValidRtpCapabilities, validate_and_normalize_rtp_capabilities,
    validate_and_normalize_rtp_parameters,
};

#[cfg(test)]
mod tests;
