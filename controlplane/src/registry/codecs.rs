//! The codecs of routers: a few sets that very many routers have, kept once each.

use std::{collections::VecDeque, sync::Arc};

use ironcast_api::{RtpCapabilities, RtpCodecCapability};

/// Sets that are looked through for an equal one.
const SETS_MAX: usize = 16;

/// What a router can receive and send.
#[derive(Debug, PartialEq)]
pub struct Codecs {
    /// Derived from `media`.
    pub capabilities: RtpCapabilities,
    /// As given, or the default set.
    pub media: Vec<RtpCodecCapability>,
}

/// The sets that were used last, the newest first.
#[derive(Debug, Default)]
pub(super) struct Shared(VecDeque<Arc<Codecs>>);

impl Shared {
    /// The same set, as others have it if they do.
    pub(super) fn share(&mut self, codecs: Arc<Codecs>) -> Arc<Codecs> {
        if let Some(known) = self.0.iter().find(|known| **known == codecs) {
            return Arc::clone(known);
        }
        self.0.truncate(SETS_MAX - 1);
        self.0.push_front(Arc::clone(&codecs));
        codecs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codecs(count: usize) -> Arc<Codecs> {
        let media = ironcast_negotiate::default_media_codecs();
        let media = media.into_iter().cycle().take(count).collect();
        Arc::new(Codecs { capabilities: RtpCapabilities::default(), media })
    }

    #[test]
    fn equal_sets_are_kept_once_and_few_are_looked_through() {
        let mut shared = Shared::default();
        let first = shared.share(codecs(1));
        assert!(Arc::ptr_eq(&first, &shared.share(codecs(1))));
        for size in 2..100 {
            let other = shared.share(codecs(size));
            assert!(!Arc::ptr_eq(&first, &other));
        }
        assert_eq!(shared.0.len(), SETS_MAX);
        // One that was forgotten is kept anew.
        assert!(!Arc::ptr_eq(&first, &shared.share(codecs(1))));
    }
}
