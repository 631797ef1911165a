//! What the dataplane and the control plane say to each other: types and framing, no I/O
