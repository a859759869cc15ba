//! Metrics in Prometheus's text format.

use std::fmt::{Display, Write};

/// The media type of the format.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text that grows metric by metric.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

impl Exposition {
    /// A counter: it only grows.
    pub(crate) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help, [("", value)]);
    }

    /// A gauge: it goes up and down.
    pub(crate) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help, [("", value)]);
    }

    /// A counter for each label. A label is whole, as in `qos="1"`, and nothing that a peer has chosen.
    pub(crate) fn counters<L: AsRef<str>, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.family(name, "counter", help, values);
    }

    /// A gauge for each label.
    pub(crate) fn gauges<L: AsRef<str>, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        self.family(name, "gauge", help, values);
    }

    /// The whole text.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn family<L: AsRef<str>, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (L, V)>,
    ) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (label, value) in values {
            let _ = match label.as_ref() {
                "" => writeln!(self.text, "{name} {value}"),
                label => writeln!(self.text, "{name}{{{label}}} {value}"),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_help_and_type_once() {
        let mut text = Exposition::default();
        text.counter("a_total", "How many.", 3);
        text.gauges("b", "How much.", [("shard=\"0\"", 0.5), ("shard=\"1\"", 0.25)]);
        let expected = "# HELP a_total How many.\n# TYPE a_total counter\na_total 3\n\
                        # HELP b How much.\n# TYPE b gauge\nb{shard=\"0\"} 0.5\nb{shard=\"1\"} 0.25\n";
        assert_eq!(text.into_text(), expected);
    }
}
