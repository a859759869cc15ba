//! Programs that come from Debian packages.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;

/// Makes sure that all `programs` are on the search path, installing `package` when one is not.
pub(crate) fn ensure(programs: &[&str], package: &str) -> Result<()> {
    let missing = || programs.iter().find(|program| command::find_program(program).is_none());
    let Some(program) = missing() else { return Ok(()) };
    install(package).with_context(|| format!("`{program}` is missing"))?;
    match missing() {
        Some(program) => bail!("`{program}` is missing although `{package}` is installed"),
        None => Ok(()),
    }
}

/// Installs `package` as root or through `sudo`. Where neither works, the error says what to install.
pub(crate) fn install(package: &str) -> Result<()> {
    let advice = || format!("install the package `{package}` (Debian's name) and try again");
    let Some(administrator) = administrator() else { bail!("{}", advice()) };
    for arguments in [&["update"][..], &["install", "-y", "--no-install-recommends", package]] {
        let mut apt = Command::new(administrator[0]);
        apt.args(&administrator[1..]).args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]).args(arguments);
        command::run_checked(&mut apt).with_context(advice)?;
    }
    Ok(())
}

/// The words before a command that give it the rights and the environment to install packages.
fn administrator() -> Option<&'static [&'static str]> {
    command::find_program("apt-get")?;
    if command::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0") {
        return Some(&["env"]);
    }
    command::succeeds(Command::new("sudo").args(["-n", "true"])).then_some(&["sudo", "-n", "env"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_are_there_need_no_package() {
        assert!(ensure(&["sh", "env"], "no-such-package").is_ok());
    }
}
