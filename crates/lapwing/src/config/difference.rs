//! What is different between two configurations, key by key.

use toml::Value;

use super::Config;

/// A key with another value than before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    /// As in `limits.receive_maximum`.
    pub(crate) key: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Difference {
    /// All keys that differ, in their order.
    pub(crate) fn between(before: &Config, after: &Config) -> anyhow::Result<Vec<Self>> {
        let mut found = Vec::new();
        collect("", Some(&Value::try_from(before)?), Some(&Value::try_from(after)?), &mut found);
        Ok(found)
    }

    /// For people: `log.level: "info" → "debug"`.
    pub(crate) fn text(&self) -> String {
        let shown =
            |value: &Option<Value>| value.as_ref().map_or_else(|| "none".to_owned(), Value::to_string);
        format!("{}: {} → {}", self.key, shown(&self.before), shown(&self.after))
    }
}

fn collect(path: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after {
        return;
    }
    let (one, other) = (before.and_then(Value::as_table), after.and_then(Value::as_table));
    if one.is_none() && other.is_none() {
        let (before, after) = (before.cloned(), after.cloned());
        return found.push(Difference { key: path.to_owned(), before, after });
    }
    let mut names: Vec<_> = one.into_iter().chain(other).flat_map(|table| table.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let of = |table: Option<&'_ toml::Table>| table.and_then(|table| table.get(name)).cloned();
        collect(&path, of(one).as_ref(), of(other).as_ref(), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_differ_are_named_with_both_values() {
        let parse = |text: &str| toml::from_str::<Config>(text).unwrap();
        let before =
            parse("[log]\nlevel = 'info'\n[listeners.lan]\nbind = 'a:1'\n[limits]\nreceive_maximum = 7");
        let after = parse(
            "data = '/d'\n[log]\nlevel = 'debug'\n[listeners.wan]\nbind = 'b:1'\n[limits]\nreceive_maximum = 7",
        );
        let texts: Vec<_> =
            Difference::between(&before, &after).unwrap().iter().map(Difference::text).collect();
        assert_eq!(
            texts,
            [
                "data: none → \"/d\"",
                "listeners.lan.bind: \"a:1\" → none",
                "listeners.wan.bind: none → \"b:1\"",
                "log.level: \"info\" → \"debug\"",
            ]
        );
        assert_eq!(Difference::between(&before, &before).unwrap(), []);
    }
}
