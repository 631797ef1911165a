//! Observers: they tell who of a room's audio producers speaks, by the levels that publishers write
//! into their packets (RFC 6464). Their events are [`crate::Event::ObserverVolumes`],
//! [`crate::Event::ObserverSilence`] and [`crate::Event::DominantSpeaker`].

use serde::{Deserialize, Serialize};

use crate::Id;

/// An observer of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateObserver {
    /// The caller's id.
    pub id: Id,
    /// The room.
    pub router: Id,
    /// What it tells.
    pub method: Method,
    /// Kept and returned as it is.
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// What an observer tells, and how often at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The loudest producers and their volumes, and when nobody is loud any more.
    AudioLevel {
        /// Average volume from which on a producer counts, dBov: -127 to 0.
        threshold: i8,
        /// Milliseconds: 250 to 5,000.
        interval_ms: u32,
        /// How many of the loudest are told, at least 1.
        entries_max: u16,
    },
    /// The dominant speaker (Volfin and Cohen), when it changes.
    ActiveSpeaker {
        /// Milliseconds: 100 to 5,000.
        interval_ms: u32,
    },
}

impl Method {
    /// Milliseconds.
    #[must_use]
    pub fn interval_ms(self) -> u32 {
        match self {
            Self::AudioLevel { interval_ms, .. } | Self::ActiveSpeaker { interval_ms } => {
                interval_ms
            }
        }
    }
}

/// A producer that an observer is to listen to, or not any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observe {
    /// The observer.
    pub id: Id,
    /// An audio producer of the same room.
    pub producer: Id,
}

/// What changes on an observer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObserverState {
    /// By the API.
    pub paused: bool,
    /// Whom it listens to, in the order in which they were added.
    pub producers: Vec<Id>,
    /// Who dominates, of those who look for that.
    pub dominant: Option<Id>,
}

/// How loud a producer was in the last interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Which.
    pub producer: Id,
    /// Average, dBov: -127 (silence) to 0.
    pub volume: i8,
}
