//! Looking at what runs, and closing it: `ironcast ls`, `show`, `close` and `stats`. One file a
//! command; `things` finds what is meant, `table` writes it.

pub(crate) mod close;
pub(crate) mod ls;
pub(crate) mod show;
pub(crate) mod stats;
pub(crate) mod table;
pub(crate) mod things;
