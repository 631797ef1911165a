//! Ids and `appData`: their rules, checked where they are read, so that a value of these types is
//! always a valid one. Used in every request, answer and event.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

/// Longest id, in characters.
pub const ID_CHARACTERS_MAX: usize = 64;

/// Largest `appData`, in bytes of compact JSON.
pub const APP_DATA_BYTES_MAX: usize = 8 * 1024;

/// Id of a resource: 1 to 64 characters of `A-Z a-z 0-9 . _ : -`. A clone shares the text: a
/// consumer's stands in a dozen places.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(Arc<str>);

/// A text that is no [`Id`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to 64 characters of A-Z a-z 0-9 . _ : -")]
pub struct InvalidId;

impl Id {
    /// Checks a text.
    pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
        let text = text.as_ref();
        if is_valid_id(text) { Ok(Self(text.into())) } else { Err(InvalidId) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as an owned text.
    pub fn into_string(self) -> String {
        self.0.as_ref().to_owned()
    }
}

/// Whether a text may be an id.
pub fn is_valid_id(text: &str) -> bool {
    (1..=ID_CHARACTERS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl TryFrom<String> for Id {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.into_string()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Deref for Id {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Id {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Id {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Id {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Id {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(IdVisitor)
    }
}

/// Takes the text where it lies: nothing is copied that is refused, or twice.
struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
        Id::new(text).map_err(E::custom)
    }
}

#[cfg(feature = "openapi")]
impl salvo_oapi::ToSchema for Id {
    fn to_schema(
        _components: &mut salvo_oapi::Components,
    ) -> salvo_oapi::RefOr<salvo_oapi::schema::Schema> {
        salvo_oapi::Object::new()
            .schema_type(salvo_oapi::BasicType::String)
            .min_length(1)
            .max_length(ID_CHARACTERS_MAX)
            .pattern("^[A-Za-z0-9._:-]+$")
            .into()
    }
}

/// What a caller keeps on a resource: a JSON object that we never look into, at most 8 KiB.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct AppData(Map<String, Value>);

/// An `appData` above [`APP_DATA_BYTES_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("appData is an object of at most 8192 bytes of JSON")]
pub struct AppDataTooLarge;

impl AppData {
    /// Checks the size.
    pub fn new(map: Map<String, Value>) -> Result<Self, AppDataTooLarge> {
        let size = serde_json::to_string(&map).map_or(usize::MAX, |json| json.len());
        if size > APP_DATA_BYTES_MAX { Err(AppDataTooLarge) } else { Ok(Self(map)) }
    }

    /// The object.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for AppData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Option::<Map<String, Value>>::deserialize(deserializer)?.unwrap_or_default();
        Self::new(map).map_err(de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl salvo_oapi::ToSchema for AppData {
    fn to_schema(
        _components: &mut salvo_oapi::Components,
    ) -> salvo_oapi::RefOr<salvo_oapi::schema::Schema> {
        salvo_oapi::Object::new()
            .schema_type(salvo_oapi::BasicType::Object)
            .description("Opaque to the server, at most 8 KiB")
            .into()
    }
}
