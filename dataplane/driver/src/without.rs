//! What a kernel may lack and the driver does without. Each is decided in one place:
//!
//! | name | since | without it | decided in |
//! |---|---|---|---|
//! | `min_wait` | 6.12 | two waits instead of one under load | `ring` |
//! | `registered_ring` | 5.18 | the kernel looks the ring's descriptor up in each call | `ring` |
//! | `file_table` | 6.13 | sockets are descriptors and count against the limit of open files | `files` |
//! | `segmentation` | 4.18 | each datagram is a send of its own | `tx`, for each path |
//! | `xdp_budget` | 6.17 | frames leave by 32 a call | `xdp` |
//!
//! Tests mask them off here, so that what runs on older kernels is run on every kernel.

/// Names of what is masked off, with commas between them.
const VARIABLE: &str = "IRONCAST_TEST_WITHOUT";

/// What the driver does as if the kernel had it not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Without {
    pub(crate) min_wait: bool,
    pub(crate) registered_ring: bool,
    pub(crate) file_table: bool,
    pub(crate) segmentation: bool,
    pub(crate) xdp_budget: bool,
}

/// A name that is none of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE}: there is no `{0}`; there are {names}", names = Without::NAMES.join(", "))]
pub struct UnknownName(String);

impl Without {
    /// Everything that can be masked off.
    pub const NAMES: [&str; 5] =
        ["min_wait", "registered_ring", "file_table", "segmentation", "xdp_budget"];

    /// What the environment masks off, for tests; nothing, where it says nothing.
    ///
    /// # Errors
    /// A name that is none of [`Without::NAMES`].
    pub fn from_environment() -> Result<Self, UnknownName> {
        Self::parse(&std::env::var(VARIABLE).unwrap_or_default())
    }

    fn parse(list: &str) -> Result<Self, UnknownName> {
        let mut without = Self::default();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let place = match name {
                "min_wait" => &mut without.min_wait,
                "registered_ring" => &mut without.registered_ring,
                "file_table" => &mut without.file_table,
                "segmentation" => &mut without.segmentation,
                "xdp_budget" => &mut without.xdp_budget,
                other => return Err(UnknownName(other.to_owned())),
            };
            *place = true;
        }
        Ok(without)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_masks_something_of_its_own() {
        assert_eq!(Without::parse(" ,"), Ok(Without::default()));
        let masks = Without::NAMES.map(|name| Without::parse(name).unwrap());
        for (index, mask) in masks.iter().enumerate() {
            assert_ne!(*mask, Without::default());
            assert!(!masks[..index].contains(mask));
        }
        let text = Without::parse("min_wait,nonsense").unwrap_err().to_string();
        assert!(text.contains("`nonsense`") && text.contains("registered_ring"), "{text}");
    }
}
