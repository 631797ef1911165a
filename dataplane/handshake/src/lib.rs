//! DTLS off the packet threads, behind a trait; gives SRTP keys
