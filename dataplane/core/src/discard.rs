//! Why a datagram or packet was dropped. Each reason is a counter; nothing is dropped without one,
//! and never with a string or a log line.

macro_rules! discards {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// A reason to drop. `Copy`, and an index into [`Discards`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
        #[repr(u8)]
        pub enum Discard {
            $($(#[$doc])* #[error($label)] $name,)*
        }

        impl Discard {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The counter's name.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }
        }
    };
}

discards! {
    /// Empty, or of no protocol known here (RFC 7983 ranges).
    UnknownProtocol => "unknown_protocol",
    /// From an address that ICE has not accepted.
    UnknownSource => "unknown_source",
    /// At a plain transport, from another address than its peer's.
    PlainWrongSource => "plain_wrong_source",
    /// At a plain transport that learns its peer's address, from one that is not allowed.
    PlainNotAllowed => "plain_not_allowed",
    /// Longer than the largest packet we take.
    Oversized => "oversized",
    /// Not a well-formed STUN message.
    StunMalformed => "stun_malformed",
    /// Nobody here has that username.
    StunUnknownUser => "stun_unknown_user",
    /// MESSAGE-INTEGRITY or FINGERPRINT is wrong.
    StunUnauthenticated => "stun_unauthenticated",
    /// A check by UDP or TCP, of which its transport has no candidate.
    StunWrongProtocol => "stun_wrong_protocol",
    /// More candidate paths than one transport may have.
    StunTooManyPaths => "stun_too_many_paths",
    /// The driver has no socket left for a new path.
    SocketRefused => "socket_refused",
    /// A DTLS record where none is expected.
    DtlsUnexpected => "dtls_unexpected",
    /// More DTLS datagrams of one peer than a handshake takes.
    DtlsTooMany => "dtls_too_many",
    /// SRTP before the keys are there.
    SrtpNoKeys => "srtp_no_keys",
    /// Too short, or its tag is wrong.
    SrtpUnauthenticated => "srtp_unauthenticated",
    /// Seen before, or older than the replay window.
    SrtpReplayed => "srtp_replayed",
    /// Not a well-formed RTP packet.
    RtpMalformed => "rtp_malformed",
    /// No producer has that SSRC, MID or RID.
    RtpUnknownStream => "rtp_unknown_stream",
    /// A payload type that the producer did not announce.
    RtpUnknownPayloadType => "rtp_unknown_payload_type",
    /// RED (RFC 2198) whose lengths are not the payload's, or with more blocks than anybody sends.
    RedMalformed => "red_malformed",
    /// A payload whose descriptor is cut short or contradicts itself: nobody could decode it.
    PayloadMalformed => "payload_malformed",
    /// Retransmission of something not asked for, empty, or already here.
    RtxUseless => "rtx_useless",
    /// The producer is paused.
    ProducerPaused => "producer_paused",
    /// Already in the history (doubled upstream).
    Duplicate => "duplicate",
    /// Too far from what was expected.
    OutOfWindow => "out_of_window",
    /// The stream has had 2^32 numbers.
    NumbersUsedUp => "numbers_used_up",
    /// Not a well-formed RTCP packet.
    RtcpMalformed => "rtcp_malformed",
    /// RTCP about streams that are not there.
    RtcpUnknownStream => "rtcp_unknown_stream",
    /// A sender report with an RTP time that its stream's packets cannot have.
    RtcpWrongTime => "rtcp_wrong_time",
    /// A table, queue or pool is full.
    LimitReached => "limit_reached",
    /// No slab was free for the output.
    OutputExhausted => "output_exhausted",
    /// It has waited for output for longer than it is of use: more comes than leaves.
    OutputLate => "output_late",
}

impl Discard {
    /// True for a reason that is found before the tag of an SRTP packet has verified: such a packet
    /// may be anybody's.
    #[must_use]
    pub fn is_before_verification(self) -> bool {
        matches!(
            self,
            Self::Oversized
                | Self::UnknownSource
                | Self::PlainWrongSource
                | Self::PlainNotAllowed
                | Self::RtpMalformed
                | Self::RtcpMalformed
                | Self::SrtpNoKeys
                | Self::SrtpUnauthenticated
                | Self::SrtpReplayed
                | Self::LimitReached
        )
    }
}

/// Counters by reason.
#[derive(Debug, Clone)]
pub struct Discards([u64; Discard::ALL.len()]);

impl Default for Discards {
    fn default() -> Self {
        Self([0; Discard::ALL.len()])
    }
}

impl Discards {
    /// One more.
    pub fn count(&mut self, reason: Discard) {
        self.0[reason as usize] += 1;
    }

    /// So many more.
    pub fn add(&mut self, reason: Discard, count: u64) {
        self.0[reason as usize] += count;
    }

    /// How many.
    #[must_use]
    pub fn of(&self, reason: Discard) -> u64 {
        self.0[reason as usize]
    }

    /// All, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Discard::ALL.iter().map(|&reason| (reason.label(), self.of(reason)))
    }
}
