//! Who was there and who spoke, on the clock of a recording: what stands beside it as JSON. Pure.

use std::collections::BTreeMap;

use ironcast_api::Id;
use serde::{Deserialize, Serialize};

/// Entries of one recording; beyond, no more are noted.
const ENTRIES_MAX: usize = 20_000;

/// Somebody was there, or spoke, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// Who.
    pub participant_id: Id,
    /// What others read.
    pub name: String,
    /// From, on the recording's clock.
    pub from_ms: u64,
    /// Until; none while it goes on.
    pub to_ms: Option<u64>,
}

/// All of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Who joined and left.
    pub participants: Vec<Span>,
    /// Who spoke.
    pub speaking: Vec<Span>,
}

fn observe(spans: &mut Vec<Span>, now_ms: u64, there: &BTreeMap<Id, String>) {
    for span in spans.iter_mut().filter(|span| span.to_ms.is_none()) {
        if !there.contains_key(&span.participant_id) {
            span.to_ms = Some(now_ms);
        }
    }
    for (id, name) in there {
        let is_open = |span: &Span| span.to_ms.is_none() && span.participant_id == *id;
        if spans.len() < ENTRIES_MAX && !spans.iter().rev().any(is_open) {
            let (participant_id, name) = (id.clone(), name.clone());
            spans.push(Span { participant_id, name, from_ms: now_ms, to_ms: None });
        }
    }
}

impl Timeline {
    /// How it is now.
    pub fn observe(&mut self, now_ms: u64, people: &BTreeMap<Id, String>, speakers: &[Id]) {
        observe(&mut self.participants, now_ms, people);
        let speaking = speakers.iter().filter_map(|id| Some((id.clone(), people.get(id)?.clone())));
        observe(&mut self.speaking, now_ms, &speaking.collect());
    }

    /// It is over.
    pub fn end(&mut self, now_ms: u64) {
        self.observe(now_ms, &BTreeMap::new(), &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_there_and_spoke_is_noted_once() {
        let id = |text: &str| Id::new(text).unwrap();
        let people = |who: &[&str]| who.iter().map(|one| (id(one), one.to_uppercase())).collect();
        let mut line = Timeline::default();
        line.observe(0, &people(&["ada"]), &[]);
        line.observe(100, &people(&["ada", "bob"]), &[id("bob")]);
        line.observe(200, &people(&["ada", "bob"]), &[id("bob"), id("ada")]);
        line.observe(300, &people(&["ada"]), &[id("ada"), id("bob")]);
        line.observe(400, &people(&["ada", "bob"]), &[]);
        line.end(500);
        let of = |spans: &[Span]| -> Vec<(String, u64, Option<u64>)> {
            spans.iter().map(|span| (span.name.clone(), span.from_ms, span.to_ms)).collect()
        };
        let span = |who: &str, from, to| (who.to_owned(), from, Some(to));
        assert_eq!(
            of(&line.participants),
            [span("ADA", 0, 500), span("BOB", 100, 300), span("BOB", 400, 500)]
        );
        assert_eq!(of(&line.speaking), [span("BOB", 100, 300), span("ADA", 200, 400)]);
    }
}
