//! Which layers the frames of one received stream belong to, by their dependency descriptors. Owns the
//! templates that came last; they take room only in streams that have any.

use crate::{
    numbers::SourceSeq,
    wire::dependency::{Dependency, Descriptor, Templates},
};

/// See the file's head.
#[derive(Debug, Default)]
pub struct Dependencies {
    templates: Option<Box<Templates>>,
    /// The packet that they came with.
    since: SourceSeq,
}

impl Dependencies {
    /// Reads the descriptor of a verified packet, and keeps the templates that are in it. Older ones
    /// than are here, of a packet that comes late, change nothing. `None` where it is malformed.
    pub fn read<'a>(&mut self, value: &'a [u8], seq: SourceSeq) -> Option<Dependency<'a>> {
        let descriptor = Descriptor::parse(value)?;
        if seq >= self.since
            && let Some(templates) = Templates::parse(&descriptor)
        {
            self.since = seq;
            match &mut self.templates {
                Some(kept) => **kept = templates,
                none => *none = Some(Box::new(templates)),
            }
        }
        let layers = self.templates.as_ref().and_then(|templates| templates.layers_of(&descriptor));
        Some(Dependency { descriptor, layers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two temporal layers whose ids begin at `first`: S S, then - D.
    fn templates(first: u8) -> [u8; 7] {
        let bits = u64::from(first) << 48 // 3 bytes of head
            | 0b10000 << 27 // templates follow
            | u64::from(first) << 21
            | 1 << 16 // two targets
            | 0b01_11 << 12
            | 0b10_10_00_01 << 4;
        bits.to_be_bytes()[1..].try_into().unwrap()
    }

    #[test]
    fn late_templates_change_nothing_and_later_ones_do() {
        let mut kept = Dependencies::default();
        let layer = |kept: &mut Dependencies, id: u8| {
            let value = [id, 0, 0];
            let read = kept.read(&value, SourceSeq(99)).unwrap();
            read.layers.map(|layers| (layers.temporal, layers.opens_all))
        };
        assert_eq!(layer(&mut kept, 5), None);
        let first = templates(5);
        let read = kept.read(&first, SourceSeq(100)).unwrap();
        assert!(read.descriptor.has_templates);
        assert_eq!((layer(&mut kept, 5), layer(&mut kept, 6)), (Some((0, true)), Some((1, false))));
        kept.read(&templates(20), SourceSeq(90)).unwrap();
        assert_eq!((layer(&mut kept, 5), layer(&mut kept, 20)), (Some((0, true)), None));
        kept.read(&templates(20), SourceSeq(110)).unwrap();
        assert_eq!((layer(&mut kept, 5), layer(&mut kept, 21)), (None, Some((1, false))));
        assert_eq!(kept.read(&[5], SourceSeq(120)), None);
    }
}
