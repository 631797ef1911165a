//! Loss recovery: what was lost on the way in, and what is sent again.

pub mod allowance;
pub mod history;
pub mod nack;
pub mod pool;
pub mod red;
pub mod resend;
pub mod statistics;
