//! Asking a person for a secret.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Asks for a password on the terminal, without showing it.
pub(crate) fn password(prompt: &str) -> anyhow::Result<String> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let terminal =
        terminal.context("there is no terminal to ask for the password; write --stdin or --password-file")?;
    let hidden = Hidden::new(terminal)?;
    write!(&hidden.terminal, "{prompt}: ")?;
    let line = hidden.read_line();
    writeln!(&hidden.terminal)?;
    line
}

/// A terminal that shows nothing of what is typed and passes every key on, until it is dropped: also the one that would end the
/// program, and leave the terminal as it is now.
struct Hidden {
    terminal: File,
    before: Termios,
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const KILL_LINE: u8 = 0x15;

impl Hidden {
    fn new(terminal: File) -> anyhow::Result<Self> {
        let before = tcgetattr(&terminal).context("the terminal cannot be asked")?;
        let mut modes = before.clone();
        modes.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(&terminal, OptionalActions::Flush, &modes).context("the terminal cannot be set")?;
        Ok(Self { terminal, before })
    }

    fn read_line(&self) -> anyhow::Result<String> {
        let (mut line, mut byte) = (Vec::new(), [0]);
        loop {
            match (&self.terminal).read(&mut byte) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("the terminal cannot be read"),
                Ok(0) => bail!("no password was given"),
                Ok(_) => {}
            }
            match byte[0] {
                b'\r' | b'\n' => break,
                INTERRUPT | END => bail!("no password was given"),
                KILL_LINE => line.clear(),
                // A whole character, which may have several bytes.
                0x7f | 0x08 => while line.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
                byte => line.push(byte),
            }
        }
        String::from_utf8(line).context("the password is not UTF-8 text")
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that has gone.
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}
