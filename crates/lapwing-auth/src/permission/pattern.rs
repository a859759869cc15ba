//! Matching one topic name with one topic filter, byte by byte.

/// Whether `pattern`, the text of a topic filter that is not shared, matches `name`, the text of a topic name.
///
/// It says the same as `TopicFilter::matches`. That looks for the ends of levels first, which costs more than this where the first
/// bytes differ; and most rules do not fit most topics.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // [MQTT-4.7.2-1]
    if name.first() == Some(&b'$') && matches!(pattern.first(), Some(b'+' | b'#')) {
        return false;
    }
    let (mut at, mut of) = (0, 0);
    loop {
        match (pattern.get(at), name.get(of)) {
            (Some(b'#'), _) => return true,
            (Some(b'+'), _) => {
                at += 1;
                of += name[of..].iter().position(|&byte| byte == b'/').unwrap_or(name.len() - of);
            }
            (Some(wanted), Some(found)) if wanted == found => {
                at += 1;
                of += 1;
            }
            // `a/#` matches `a` as well.
            (Some(b'/'), None) => return &pattern[at..] == b"/#",
            (None, None) => return true,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use lapwing_proto::topic::{TopicFilter, TopicName};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn it_says_what_the_protocol_says(
            pattern in "([ab$+#]|a[b$]|)(/([ab$+#]|a[b$]|)){0,4}", name in "([ab$]|a[b$]|)(/([ab$]|a[b$]|)){0,4}",
        ) {
            if let (Ok(filter), Ok(topic)) = (TopicFilter::new(&pattern), TopicName::new(&name)) {
                prop_assert_eq!(matches(&pattern, &name), filter.matches(topic), "{} {}", pattern, name);
            }
        }
    }
}
