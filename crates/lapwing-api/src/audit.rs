//! Who has changed what through the admin channel: a line of the log for each.

use std::sync::{Arc, OnceLock};

use axum::http::Method;

use crate::tokens::Actor;

/// Bytes of a line that are the requester's own words.
const SHOWN: usize = 256;

/// What a request is to do, where its body says it and its path does not.
#[derive(Debug, Clone, Default)]
pub(crate) struct Deed(Arc<OnceLock<String>>);

impl Deed {
    /// It is this. No payloads and no secrets: it stands in the log.
    pub(crate) fn is(&self, text: String) {
        // Nobody says it twice.
        let _ = self.0.set(text);
    }
}

/// Whether a request is worth a line: it changes something, or takes everything away.
pub(crate) fn is_audited(method: &Method, path: &str) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || path == "/api/v1/store/backup"
}

/// Writes the line. `status` is that of the answer: a change that was refused is worth a line as well.
pub(crate) fn log(actor: &Actor, (method, path): (&Method, &str), deed: &Deed, status: u16) {
    let deed = deed.0.get().map(|text| shown(text));
    let (token, role, path) = (&*actor.name, actor.role.name(), shown(path));
    tracing::info!(token, role, %method, path, deed, status, "admin request");
}

/// What may stand in the log of a text of somebody else's.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_worth_a_line() {
        for (method, path, expected) in [
            (Method::GET, "/api/v1/status", false),
            (Method::GET, "/api/v1/store/backup", true),
            (Method::POST, "/api/v1/bans", true),
            (Method::DELETE, "/api/v1/clients/a", true),
            (Method::PUT, "/nothing", true),
        ] {
            assert_eq!(is_audited(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn the_words_of_others_neither_steer_a_terminal_nor_fill_the_log() {
        assert_eq!(shown("a\n\x1b[2J"), "a\\n\\u{1b}[2J");
        let long = shown(&"ü".repeat(1000));
        assert_eq!(long.chars().count(), SHOWN + 1);
    }
}
