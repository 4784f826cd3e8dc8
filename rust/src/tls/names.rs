//! Names of hosts and patterns with one wildcard label (RFC 6125 section 6.4.3).

use std::collections::HashMap;

/// Values by name: an exact name goes before a wildcard.
pub struct Names<T> {
    exact: HashMap<String, Vec<T>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<T>>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
        }
    }
}

impl<T> Names<T> {
    pub fn add(&mut self, name: &str, value: T) {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let (table, name) = match name.strip_prefix("*.") {
            Some(rest) => (&mut self.wildcard, rest.to_owned()),
            None => (&mut self.exact, name),
        };
        table.entry(name).or_default().push(value);
    }

    /// All values for a name, in the order in which they were added.
    pub fn find(&self, name: &str) -> &[T] {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let rest = || {
            name.split_once('.')
                .and_then(|(_, rest)| self.wildcard.get(rest))
        };
        self.exact
            .get(&name)
            .or_else(rest)
            .map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_names_win_and_a_wildcard_stands_for_one_label() {
        let mut names = Names::default();
        for (value, name) in ["*.example.com", "a.example.com", "A.Example.com"]
            .iter()
            .enumerate()
        {
            names.add(name, value);
        }
        assert_eq!(names.find("a.EXAMPLE.com"), [1, 2]);
        assert_eq!(names.find("b.example.com."), [0]);
        for none in ["example.com", "c.b.example.com", "com", "", "."] {
            assert!(names.find(none).is_empty(), "{none:?}");
        }
    }
}
