//! Turns what is right into what is wrong, by a seed: values of JSON and bytes.

use ironcast_load::random::Random;
use serde_json::{Map, Value, json};

/// Deeper than the server's JSON reader goes, and than a stack should.
const DEPTH: usize = 20_000;

/// See the head of this file.
pub(crate) struct Mutator(pub(crate) Random);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// One time in so many.
    pub(crate) fn chance(&mut self, one_in: u64) -> bool {
        self.0.below(one_in) == 0
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        self.0.below(length as u64) as usize
    }

    /// What nobody expects in the place of anything.
    fn oddity(&mut self) -> Value {
        let text = |length: usize| Value::from("a".repeat(length));
        match self.0.below(24) {
            0 => Value::Null,
            1 => json!(true),
            2 => json!(-1),
            3 => json!(0),
            4 => json!(0.5),
            5 => json!(-1e300),
            6 => json!(u64::MAX),
            7 => json!(i64::MIN),
            8 => json!(4_294_967_296_u64),
            9 => json!(""),
            10 => json!("nobody"),
            11 => json!("with space"),
            12 => json!("\u{0}\u{7f}"),
            13 => json!("ünïcödé \u{1F600}\u{202E}"),
            14 => json!("../../etc/passwd"),
            15 => text(65),
            16 => text(70_000),
            17 => json!([]),
            18 => json!({}),
            19 => json!([null, 1, "x", {}]),
            20 => json!({ "id": { "id": "x" } }),
            21 => Value::Array(vec![json!({}); 400]),
            22 => json!(self.0.next_u64()),
            _ => Value::from(self.0.text(12)),
        }
    }

    /// Changes one to three places of a value.
    pub(crate) fn value(&mut self, value: &mut Value) {
        for _ in 0..=self.0.below(3) {
            self.one_place(value);
        }
    }

    fn one_place(&mut self, value: &mut Value) {
        // Somewhere on the way down, or at the end of it.
        let stops = self.chance(4);
        match value {
            Value::Object(map) if !map.is_empty() && !stops => {
                let key = map.keys().nth(self.0.below(map.len() as u64) as usize).cloned();
                let Some(key) = key else { return };
                match self.0.below(8) {
                    0 => drop(map.remove(&key)),
                    1 => self.rename(map, &key),
                    2 => drop(map.insert(self.0.text(6), self.oddity())),
                    _ => {
                        if let Some(inner) = map.get_mut(&key) {
                            self.one_place(inner);
                        }
                    }
                }
            }
            Value::Array(items) if !items.is_empty() && !stops => {
                let index = self.0.below(items.len() as u64) as usize;
                match self.0.below(6) {
                    0 => drop(items.remove(index)),
                    1 => items.push(items[index].clone()),
                    2 => items.push(self.oddity()),
                    _ => self.one_place(&mut items[index]),
                }
            }
            other => *other = self.oddity(),
        }
    }

    fn rename(&mut self, map: &mut Map<String, Value>, key: &str) {
        let Some(value) = map.remove(key) else { return };
        let name = if self.chance(2) { key.to_uppercase() } else { format!("{key}s") };
        map.insert(name, value);
    }

    /// Damages bytes.
    pub(crate) fn bytes(&mut self, bytes: &mut Vec<u8>) {
        let at = self.0.below(bytes.len() as u64 + 1) as usize;
        match self.0.below(6) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, [0xFF, 0xFE, 0xC0])),
            2 => {
                let end = (at + 1 + self.0.below(40) as usize).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                drop(bytes.splice(at..at, piece));
            }
            3 => {
                let end = (at + 1 + self.0.below(8) as usize).min(bytes.len());
                bytes.drain(at..end);
            }
            _ => {
                for _ in 0..=self.0.below(8) {
                    let at = self.0.below(bytes.len().max(1) as u64) as usize;
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.0.below(8);
                    }
                }
            }
        }
    }

    /// A body of JSON that is a little or entirely wrong.
    pub(crate) fn body(&mut self, right: &Value) -> Vec<u8> {
        let mut value = right.clone();
        match self.0.below(100) {
            0 => ["[".repeat(DEPTH), "]".repeat(DEPTH)].concat().into(),
            1 => {
                format!("{{\"appData\":{}1{}}}", "{\"a\":".repeat(DEPTH), "}".repeat(DEPTH)).into()
            }
            2 => (0..self.0.below(2_000)).map(|_| self.0.next_u32() as u8).collect(),
            3 => {
                // The same field twice.
                let text = value.to_string();
                format!("{{\"id\":\"a\",\"id\":\"b\",{}", text.get(1..).unwrap_or("}")).into()
            }
            4..25 => {
                let mut bytes = value.to_string().into_bytes();
                self.bytes(&mut bytes);
                bytes
            }
            25..30 => value.to_string().into(),
            _ => {
                self.value(&mut value);
                value.to_string().into()
            }
        }
    }
}
