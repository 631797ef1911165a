//! ORTC negotiation as pure functions
