//! How the program ends: exit codes, and errors as sentences on standard error.

use std::process::ExitCode;

/// Something went wrong that is no fault of the command line.
const FAILURE: u8 = 1;

/// 0, or the error on standard error and 1. (Errors in the command line itself end with 2.)
pub(crate) fn report(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, FAILURE),
    }
}

/// An error and its causes, in one line. Many errors name their cause themselves: it is not said twice.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |mut text, cause| {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.extend([colon, &cause]);
        }
        text
    })
}

/// The error on standard error, and `code`.
pub(crate) fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let message = format!("lapwing: {}\n", sentence(error));
    // Nothing can be done where standard error is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes());
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let error =
            anyhow::anyhow!("the disk is full").context("writing x: the disk is full").context("no store");
        assert_eq!(sentence(&error), "no store: writing x: the disk is full");
    }
}
