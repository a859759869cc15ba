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

/// The error on standard error, and `code`.
pub(crate) fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    let message = format!("lapwing: {error:#}\n");
    // Nothing can be done where standard error is closed.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), message.as_bytes());
    ExitCode::from(code)
}
