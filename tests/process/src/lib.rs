//! Two real processes over real sockets
