//! The public types of the control API
