//! A simulated network with a seed around the pure core
