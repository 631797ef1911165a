//! Which way up a camera is held, as its packets say (3GPP TS 26.114 section 7.4.5): told when it changes, and
//! not for each packet of somebody whose packets do not agree. What changed too soon to be told is told
//! with the next report.

use ironcast_protocol::Event;

use crate::{
    Arrival, MS, Nanos, key::ProducerKey, wire::extension::VideoOrientation, worker::Worker,
};

/// Between two times that it is told. Nobody turns a telephone faster.
const TOLD_EVERY: Nanos = 250 * MS;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Orientation {
    newest: Option<VideoOrientation>,
    told: Option<VideoOrientation>,
    told_at: Option<Arrival>,
}

impl Orientation {
    /// A packet says it. True when it is to be told now.
    pub(crate) fn note(&mut self, value: u8, arrival: Arrival) -> bool {
        self.newest = VideoOrientation::parse(&[value]);
        let is_soon = self.told_at.is_some_and(|at| arrival.since(at) < TOLD_EVERY);
        if !self.is_news() || is_soon {
            return false;
        }
        self.told_at = Some(arrival);
        true
    }

    fn is_news(&self) -> bool {
        self.newest != self.told
    }
}

impl Worker {
    /// Tells it, if it is not what was told last.
    pub(crate) fn report_orientation(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let orientation = &mut producer.orientation;
        let Some(newest) = orientation.newest.filter(|_| orientation.is_news()) else { return };
        orientation.told = Some(newest);
        self.events.push(Event::VideoOrientationChange {
            producer: producer.id.clone(),
            camera: newest.back_camera,
            flip: newest.flip,
            rotation: newest.rotation,
        });
    }
}
