use std::borrow::Cow;

/// Characters of a peer's text that a log line shows.
const SHOWN: usize = 100;

/// A text of a peer's for a field of a log line, cut where it is long. As a field it is also escaped.
pub(crate) fn excerpt(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}… ({} bytes)", &text[..end], text.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(excerpt("sensor-1"), "sensor-1");
        assert_eq!(excerpt(&"ü".repeat(SHOWN)), "ü".repeat(SHOWN));
        assert_eq!(excerpt(&"ü".repeat(1000)), format!("{}… (2000 bytes)", "ü".repeat(SHOWN)));
    }
}
