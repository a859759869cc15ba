//! Running other programs.

use std::io::{BufRead, BufReader, IsTerminal, PipeReader};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long to go on reading after a program has ended. Only a process it left behind can still hold
/// its output open then, and that must not hang the whole run.
const LEFTOVER_OUTPUT: Duration = Duration::from_secs(2);

/// What a program printed, and how it ended.
pub(crate) struct Finished {
    /// Standard output and standard error, in the order in which they were written, without colours.
    pub(crate) text: String,
    pub(crate) status: ExitStatus,
}

/// Cargo, the same one that runs this program.
pub(crate) fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.arg(subcommand);
    if std::io::stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

/// Runs `command`, showing its output as it comes. A program that cannot be started is an error.
pub(crate) fn run(command: &mut Command) -> Result<Finished> {
    println!("$ {}", describe(command));
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command.stdin(std::process::Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", program(command)))?;
    // The command holds our copies of the pipe's writing end. With them open, reading would never end.
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());

    let lines = read_lines(reader);
    let mut text = String::new();
    let status = loop {
        match lines.recv_timeout(Duration::from_millis(100)) {
            Ok(line) => show(&line, &mut text),
            Err(RecvTimeoutError::Disconnected) => break child.wait()?,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait()? {
                    break status;
                }
            }
        }
    };
    while let Ok(line) = lines.recv_timeout(LEFTOVER_OUTPUT) {
        show(&line, &mut text);
    }
    Ok(Finished { text, status })
}

/// Runs `command` as [`run`] does; any end but success is an error.
pub(crate) fn run_checked(command: &mut Command) -> Result<()> {
    let status = run(command)?.status;
    if !status.success() {
        bail!("`{}` ended with {status}", program(command));
    }
    Ok(())
}

/// What `command` prints on standard output, shown to nobody. Any end but success is an error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", program(command)))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` ended with {}: {}", describe(command), output.status, message.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` did not print UTF-8", describe(command)))
}

/// Whether `command` starts and succeeds. Prints nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Where `program` is on the search path.
pub(crate) fn find_program(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|candidate| candidate.is_file())
}

fn show(line: &str, text: &mut String) {
    print!("{line}");
    text.push_str(&without_colour(line));
}

fn read_lines(reader: PipeReader) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(reader);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

/// `text` without terminal escape sequences of the form `ESC [ … letter`.
fn without_colour(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::with_capacity(text.len());
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &after[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

fn program(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned()
}

fn describe(command: &Command) -> String {
    let mut text = program(command);
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Also for the tests of others that run commands.
    pub(crate) fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_keeps_its_order_and_the_status_is_reported() {
        let finished = run(&mut shell("echo one; echo two >&2; printf three; exit 3")).unwrap();
        assert_eq!(finished.text, "one\ntwo\nthree");
        assert_eq!(finished.status.code(), Some(3));
        assert!(run_checked(&mut shell("exit 3")).is_err());
    }

    #[test]
    fn a_process_left_behind_does_not_hang_the_run() {
        let started = std::time::Instant::now();
        let finished = run(&mut shell("tail -f /dev/null & echo $!")).unwrap();
        assert!(started.elapsed() < Duration::from_secs(60));
        assert!(succeeds(Command::new("kill").arg(finished.text.trim())));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program")).err().unwrap();
        assert!(format!("{error:#}").contains("no-such-program"));
    }

    #[test]
    fn colours_are_removed() {
        assert_eq!(without_colour("\u{1b}[32;1mPASS\u{1b}[0m [ 1 ]\n"), "PASS [ 1 ]\n");
    }
}
