//! Tables for people.

use std::io::{self, Write};

/// Rows under a heading, each column as wide as it must be.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()] }
    }

    /// Adds a row. What a client has chosen cannot steer the terminal.
    pub(super) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        print(&self.text())
    }

    fn text(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
        text
    }
}

/// Text in which control characters are `\xNN`.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            plain.push_str(&format!("\\x{:02x}", u32::from(character)));
        } else {
            plain.push(character);
        }
    }
    plain
}

/// Prints to standard output; whoever has closed it has seen enough.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // [attack: log-injection]
    #[test]
    fn columns_stand_under_each_other_and_nothing_steers_the_terminal() {
        let mut table = Table::new(&["CLIENT", "PEER"]);
        table.row(["a\x1b[2J\n".to_owned(), "x".to_owned()]);
        table.row(["门".to_owned(), String::new()]);
        assert_eq!(table.text(), "CLIENT        PEER\na\\x1b[2J\\x0a  x\n门\n");
    }
}
