//! The dependency descriptor, a header extension (AOM, "RTP Payload Format For AV1", appendix A): which
//! frame a packet is of, to which temporal layer that frame belongs, and which layers can be entered at
//! it. Frames name one of the templates that came with the last key frame. Reads what that needs and
//! no more: neither differences of frame numbers nor chains.
//!
//! ```text
//!  0 1 2 3 4 5 6 7
//! |S|E| template  |  start and end of frame, template that describes it
//! | frame number  |  16 bits
//! |T|A|D|F|C|        only in longer ones: templates, active targets, custom indications follow
//! ```

use super::u16_at;

/// Templates of one structure: their ids have 6 bits.
const TEMPLATES_MAX: usize = 64;
/// Decode targets: 5 bits.
const TARGETS_MAX: usize = 32;
/// Highest temporal layer (AV1 specification, section 5.3.3), and spatial layer.
const TEMPORAL_MAX: u8 = 7;
const SPATIAL_MAX: u8 = 3;
/// Bits of the fields that each descriptor has, and with the flags of longer ones.
const MANDATORY_BITS: usize = 24;
const FLAGS_BITS: usize = 5;
/// A decode target indication (section A.8.2): the frame is not of that target; and, from it on the
/// whole target can be decoded.
const NOT_PRESENT: u8 = 0;
const SWITCH: u8 = 2;

/// The fields that need no templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor<'a> {
    /// First packet of a frame.
    pub start_of_frame: bool,
    /// Last packet of a frame.
    pub end_of_frame: bool,
    /// Which template describes the frame, 0 to 63.
    pub template_id: u8,
    /// Counts frames.
    pub frame_number: u16,
    /// Templates are attached: only where a coded video sequence begins, or the layers change.
    pub has_templates: bool,
    has_active_targets: bool,
    has_indications: bool,
    value: &'a [u8],
}

impl<'a> Descriptor<'a> {
    /// Reads the extension's value: 3 bytes, or more with the optional fields.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let first = *value.first()?;
        let flags = value.get(3).copied().unwrap_or(0);
        Some(Self {
            start_of_frame: first & 0x80 != 0,
            end_of_frame: first & 0x40 != 0,
            template_id: first & 0x3f,
            frame_number: u16_at(value, 1)?,
            has_templates: flags & 0x80 != 0,
            has_active_targets: flags & 0x40 != 0,
            has_indications: flags & 0x20 != 0,
            value,
        })
    }
}

/// Where a frame stands among the temporal layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// Its own, 0 to 7.
    pub temporal: u8,
    /// From it on its own layer can be decoded by who had only lower ones before.
    pub is_sync: bool,
    /// From it on all layers can be decoded by who had it and lower ones.
    pub opens_all: bool,
}

/// What the descriptor of a packet says, with the templates that it refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency<'a> {
    /// As it is in the packet.
    pub descriptor: Descriptor<'a>,
    /// `None` while its templates are not here.
    pub layers: Option<Layers>,
}

/// What all descriptors until the next templates refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Templates {
    /// Id of the first.
    first_id: u8,
    count: u8,
    targets: u8,
    /// Highest temporal layer of all.
    temporal_max: u8,
    /// Temporal layer of each template, and to which targets a receiver can switch at it.
    templates: [(u8, u32); TEMPLATES_MAX],
    /// Highest temporal layer of each target.
    target_temporal: [u8; TARGETS_MAX],
}

impl Templates {
    /// The templates that are attached to a descriptor. `None` without any, or where they are cut
    /// short or break a limit.
    #[must_use]
    pub fn parse(descriptor: &Descriptor<'_>) -> Option<Self> {
        if !descriptor.has_templates {
            return None;
        }
        let mut bits = Bits { bytes: descriptor.value, at: MANDATORY_BITS + FLAGS_BITS };
        let mut read = Self {
            first_id: bits.take(6)?,
            count: 0,
            targets: bits.take(5)? + 1,
            temporal_max: 0,
            templates: [(0, 0); TEMPLATES_MAX],
            target_temporal: [0; TARGETS_MAX],
        };
        read.layers(&mut bits)?;
        for template in &mut read.templates[..usize::from(read.count)] {
            for target in 0..usize::from(read.targets) {
                let indication = bits.take(2)?;
                if indication != NOT_PRESENT {
                    let highest = &mut read.target_temporal[target];
                    *highest = template.0.max(*highest);
                }
                template.1 |= u32::from(indication == SWITCH) << target;
            }
        }
        Some(read)
    }

    /// `template_layers()`: each template's layer is given by its difference to the one before.
    fn layers(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let (mut temporal, mut spatial) = (0, 0);
        loop {
            self.templates.get_mut(usize::from(self.count))?.0 = temporal;
            self.count += 1;
            match bits.take(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (temporal, spatial) = (0, spatial + 1),
                _ => return Some(()),
            }
            if temporal > TEMPORAL_MAX || spatial > SPATIAL_MAX {
                return None;
            }
            self.temporal_max = self.temporal_max.max(temporal);
        }
    }

    /// The layers of a descriptor's frame. `None` where no template has that id: the frame is of
    /// another sequence.
    #[must_use]
    pub fn layers_of(&self, descriptor: &Descriptor<'_>) -> Option<Layers> {
        let at = descriptor.template_id.wrapping_sub(self.first_id) & 0x3f;
        let (temporal, switches) =
            *self.templates[..usize::from(self.count)].get(usize::from(at))?;
        let switches = self.own_switches(descriptor).unwrap_or(switches);
        let targets = self.target_temporal[..usize::from(self.targets)].iter().enumerate();
        let entered = targets.filter(|(target, _)| switches >> target & 1 != 0);
        let opens = entered.map(|(_, temporal)| *temporal).max();
        Some(Layers {
            temporal,
            is_sync: opens.is_some_and(|opens| opens >= temporal),
            opens_all: opens.is_some_and(|opens| opens >= self.temporal_max),
        })
    }

    /// The switches of a frame that has indications of its own. Not read behind templates, whose end
    /// is not looked for: they come with a key frame, and its template says that it opens everything.
    fn own_switches(&self, descriptor: &Descriptor<'_>) -> Option<u32> {
        if !descriptor.has_indications || descriptor.has_templates {
            return None;
        }
        let active = if descriptor.has_active_targets { usize::from(self.targets) } else { 0 };
        let mut bits = Bits { bytes: descriptor.value, at: MANDATORY_BITS + FLAGS_BITS + active };
        let mut switches = 0;
        for target in 0..self.targets {
            switches |= u32::from(bits.take(2)? == SWITCH) << target;
        }
        Some(switches)
    }
}

/// Bits of a value, the most significant first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    /// The next `count`, at most 8.
    fn take(&mut self, count: usize) -> Option<u8> {
        let mut value = 0;
        for at in self.at..self.at + count {
            value = value << 1 | self.bytes.get(at / 8)? >> (7 - at % 8) & 1;
        }
        self.at += count;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bits, the most significant first.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn put(mut self, value: u64, count: usize) -> Self {
            self.0.extend((0..count).rev().map(|bit| value >> bit & 1 != 0));
            self
        }

        fn bytes(&self) -> Vec<u8> {
            let byte = |bits: &[bool]| {
                bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))
            };
            self.0.chunks(8).map(byte).collect()
        }
    }

    /// A key frame of three temporal layers as browsers describe it (L1T3), with everything that
    /// follows the indications; ids begin at 60 and go round.
    fn l1t3() -> Vec<u8> {
        let writer = Writer::default().put(0b11, 2).put(60, 6).put(7, 16).put(0b10000, 5);
        let writer = writer.put(60, 6).put(2, 5);
        // Two of T0, one of T1, two of T2.
        let writer = [0, 1, 1, 0, 3].into_iter().fold(writer, |writer, next| writer.put(next, 2));
        let indications = [0b10_10_10, 0b10_10_10, 0b00_01_10, 0b00_00_01, 0b00_00_01];
        let writer = indications.into_iter().fold(writer, |writer, dtis| writer.put(dtis, 6));
        // Frame differences, chains, resolution: not looked at.
        writer.put(0xabcd, 16).put(0xef01, 16).bytes()
    }

    fn layers(templates: &Templates, value: &[u8]) -> Option<(u8, bool, bool)> {
        let layers = templates.layers_of(&Descriptor::parse(value).unwrap())?;
        Some((layers.temporal, layers.is_sync, layers.opens_all))
    }

    #[test]
    fn templates_name_the_layer_of_each_frame() {
        let key = l1t3();
        let descriptor = Descriptor::parse(&key).unwrap();
        assert!(descriptor.start_of_frame && descriptor.end_of_frame && descriptor.has_templates);
        assert_eq!((descriptor.template_id, descriptor.frame_number), (60, 7));
        let templates = Templates::parse(&descriptor).unwrap();
        assert_eq!(layers(&templates, &key), Some((0, true, true)));
        for (id, expected) in [
            (61, Some((0, true, true))),
            (62, Some((1, true, true))),
            (63, Some((2, false, false))),
            (0, Some((2, false, false))),
            (1, None),
            (59, None),
        ] {
            assert_eq!(layers(&templates, &[0x80 | id, 0, 8]), expected, "{id}");
        }
    }

    /// A frame of T1 that refers to the one of T1 before it: no place to enter the layer.
    #[test]
    fn a_frame_may_have_indications_of_its_own() {
        let key = l1t3();
        let templates = Templates::parse(&Descriptor::parse(&key).unwrap()).unwrap();
        for active in [false, true] {
            let flags = 0b00100 | u64::from(active) << 3;
            let writer = Writer::default().put(0b11, 2).put(62, 6).put(9, 16).put(flags, 5);
            let writer = if active { writer.put(0b011, 3) } else { writer };
            let value = writer.put(0b00_01_11, 6).bytes();
            assert_eq!(layers(&templates, &value), Some((1, false, false)), "{active}");
        }
    }

    #[test]
    fn what_is_cut_short_or_too_much_is_refused() {
        let key = l1t3();
        for len in 0..=9 {
            let read = Descriptor::parse(&key[..len]).and_then(|read| Templates::parse(&read));
            assert_eq!(read, None, "{len}");
        }
        assert!(Templates::parse(&Descriptor::parse(&key[..10]).unwrap()).is_some());
        let head = || Writer::default().put(0, 24).put(0b10000, 5).put(0, 6).put(0, 5);
        let refused = |next: u64, count: usize| {
            let writer = (0..count).fold(head(), |writer, _| writer.put(next, 2));
            let value = (0..400).fold(writer.put(3, 2), |writer, _| writer.put(0, 2)).bytes();
            Templates::parse(&Descriptor::parse(&value).unwrap()).is_none()
        };
        // 65 templates, an eighth temporal and a fourth spatial layer.
        assert_eq!([refused(0, 63), refused(0, 64)], [false, true]);
        assert_eq!([refused(1, 7), refused(1, 8)], [false, true]);
        assert_eq!([refused(2, 3), refused(2, 4)], [false, true]);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            value in prop::collection::vec(any::<u8>(), 0..255),
            other in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let read = Descriptor::parse(&value);
            if let Some(templates) = read.and_then(|read| Templates::parse(&read)) {
                for value in [&value, &other] {
                    let layers = Descriptor::parse(value).and_then(|d| templates.layers_of(&d));
                    prop_assert!(layers.is_none_or(|layers| layers.temporal <= TEMPORAL_MAX));
                }
            }
        }
    }
}
