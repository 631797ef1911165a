//! Names of the keys of the worker's tables. A key is marked by a type of its own and not by the
//! type of the value: whoever holds a key of a transport does not have to know what a transport is.

pub use crate::arena::Key;

/// Marks keys of [`crate::router::Router`].
#[derive(Debug)]
pub enum OfRouter {}
/// Marks keys of [`crate::transport::Transport`].
#[derive(Debug)]
pub enum OfTransport {}
/// Marks keys of [`crate::producer::Producer`].
#[derive(Debug)]
pub enum OfProducer {}
/// Marks keys of [`crate::consumer::Consumer`].
#[derive(Debug)]
pub enum OfConsumer {}
/// Marks keys of observers.
#[derive(Debug)]
pub enum OfObserver {}
/// Marks keys of taps.
#[derive(Debug)]
pub enum OfTap {}

/// Key of a router.
pub type RouterKey = Key<OfRouter>;
/// Key of a transport.
pub type TransportKey = Key<OfTransport>;
/// Key of a producer.
pub type ProducerKey = Key<OfProducer>;
/// Key of a consumer.
pub type ConsumerKey = Key<OfConsumer>;
/// Key of an observer.
pub type ObserverKey = Key<OfObserver>;
/// Key of a tap.
pub type TapKey = Key<OfTap>;
