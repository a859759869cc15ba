//! A word to who watches, beside the result.

use std::io::Write;

/// On standard error, so that standard output has the result and nothing else.
pub(super) fn progress(text: &str) {
    // Nothing can be done where it is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
