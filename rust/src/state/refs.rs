//! Series as one scrape refers to them: looked at several times, while the configuration may change.

use super::node::{Node, SEPARATOR};
use super::stats::SeriesTotals;
use std::sync::Arc;

/// A series that was in use.
#[derive(Debug, Clone)]
pub struct SeriesRef {
    slot: u32,
    identity: Arc<str>,
}

impl SeriesRef {
    /// Route and arm; both empty for "no route".
    pub fn names(&self) -> (&str, &str) {
        self.identity
            .split_once(SEPARATOR)
            .unwrap_or((&self.identity, ""))
    }
}

impl Node {
    /// "No route" and every series known, by slot.
    pub fn series_refs(&self) -> Vec<SeriesRef> {
        let named = self.series.iter().filter_map(|(slot, _)| {
            let identity = self.series.shared_identity(slot)?;
            Some(SeriesRef { slot, identity })
        });
        let none = SeriesRef {
            slot: 0,
            identity: "".into(),
        };
        std::iter::once(none).chain(named).collect()
    }

    /// Reads the counts of a series into `totals`; false if its slot is another's by now.
    pub fn series_totals(&self, one: &SeriesRef, totals: &mut SeriesTotals) -> bool {
        if one.slot != 0 && self.series.identity(one.slot) != Some(&one.identity) {
            return false;
        }
        totals.clear();
        self.region.series_totals(one.slot, totals);
        true
    }
}
