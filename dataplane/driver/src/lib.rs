//! io_uring, sockets and memory: the only unsafe code
