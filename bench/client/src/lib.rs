//! A WebRTC participant on an independent media stack: the load client, and the peer of the tests
