//! Just enough understanding of Rust's syntax to search sources without being fooled by comments,
//! strings and grouped imports.

/// A path such as `std::net::TcpStream`, or a single identifier, and the line it is on (from 1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NamedPath {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

impl NamedPath {
    /// Whether `name`, itself a path, occurs in this path as whole segments.
    pub(crate) fn contains(&self, name: &str) -> bool {
        let name: Vec<&str> = name.split("::").collect();
        self.segments.windows(name.len()).any(|window| window == name)
    }
}

/// `text` with comments, strings and character literals replaced by spaces. Lines keep their numbers.
pub(crate) fn code_only(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = blank_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(chars[at..end].iter().map(|&c| if c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    code
}

/// Every path and identifier in `code` (see [`code_only`]); `use a::{b, c::d}` gives `a::b` and `a::c::d`.
pub(crate) fn named_paths(code: &str) -> Vec<NamedPath> {
    let mut reader = PathReader { found: Vec::new(), groups: Vec::new(), current: Vec::new(), line: 1 };
    let mut after_separator = false;
    let mut line = 1;
    let mut chars = code.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => line += 1,
            _ if c.is_whitespace() => {}
            _ if is_identifier(c) => {
                let mut identifier = String::from(c);
                while let Some(next) = chars.next_if(|&next| is_identifier(next)) {
                    identifier.push(next);
                }
                if !after_separator {
                    reader.flush();
                    reader.line = line;
                }
                reader.current.push(identifier);
                after_separator = false;
            }
            ':' if chars.next_if_eq(&':').is_some() => after_separator = true,
            _ => {
                reader.punctuation(c, after_separator);
                after_separator = false;
            }
        }
    }
    reader.flush();
    reader.found
}

/// The line (from 1) where a file's unit tests begin: its first `#[cfg(test)]` before a module.
pub(crate) fn unit_tests_start(code: &str) -> Option<usize> {
    let lines: Vec<&str> = code.lines().map(str::trim).collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{'))
        .map(|index| index + 1)
}

struct PathReader {
    found: Vec<NamedPath>,
    /// For every open brace the path before it: empty unless it is a group of imports.
    groups: Vec<Vec<String>>,
    current: Vec<String>,
    line: usize,
}

impl PathReader {
    fn punctuation(&mut self, c: char, after_separator: bool) {
        match c {
            '{' if after_separator => {
                let mut group = self.groups.last().cloned().unwrap_or_default();
                group.append(&mut self.current);
                self.groups.push(group);
            }
            '{' => {
                self.flush();
                self.groups.push(Vec::new());
            }
            '}' => {
                self.flush();
                self.groups.pop();
            }
            _ => self.flush(),
        }
    }

    fn flush(&mut self) {
        if self.current.is_empty() {
            return;
        }
        let mut segments = self.groups.last().cloned().unwrap_or_default();
        segments.append(&mut self.current);
        self.found.push(NamedPath { line: self.line, segments });
    }
}

/// Where the comment, string or character literal that starts at `at` ends; `at` when none does.
fn blank_end(chars: &[char], at: usize) -> usize {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => position(chars, at, |c| c == '\n'),
        '/' if next == Some('*') => block_comment_end(chars, at),
        '"' => string_end(chars, at + 1),
        'r' if at == 0 || !is_identifier(chars[at - 1]) || matches!(chars[at - 1], 'b' | 'c') => {
            raw_string_end(chars, at).unwrap_or(at)
        }
        '\'' if next == Some('\\') => position(chars, (at + 3).min(chars.len()), |c| c == '\'') + 1,
        '\'' if chars.get(at + 2) == Some(&'\'') => at + 3,
        _ => at,
    }
    .min(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    while at < chars.len() {
        match chars[at] {
            '"' => return at + 1,
            '\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn raw_string_end(chars: &[char], start: usize) -> Option<usize> {
    let quote = position(chars, start + 1, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return None;
    }
    let hashes = quote - start - 1;
    let closes = |at: &usize| {
        chars[*at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    Some((quote + 1..chars.len()).find(closes).map_or(chars.len(), |at| at + 1 + hashes))
}

fn position(chars: &[char], from: usize, test: impl Fn(char) -> bool) -> usize {
    (from..chars.len()).find(|&at| test(chars[at])).unwrap_or(chars.len())
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        named_paths(&code_only(text)).into_iter().map(|path| path.segments.join("::")).collect()
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        let text = "a(\"b // \\\" c\"); // d\n/* e /* f */ g */ h('\"', '\\'', 'i'); r#\"j\"k\"# l br\"m\" n";
        assert_eq!(paths(text), ["a", "h", "l", "b", "n"]);
        assert_eq!(code_only(text).lines().count(), text.lines().count());
    }

    #[test]
    fn lifetimes_are_not_characters() {
        assert_eq!(paths("fn f<'a>(x: &'a str) -> &'a str"), ["fn", "f", "a", "x", "a", "str", "a", "str"]);
    }

    #[test]
    fn unfinished_sources_end() {
        for text in ["\"a", "/* a", "r#\"a", "'\\", "'", "r", "r##", "\"\\"] {
            code_only(text);
        }
    }

    #[test]
    fn grouped_imports_are_spelled_out() {
        let text = "use std::{\n    fs,\n    net::{self, TcpStream},\n    time::*,\n};\nfn main() { x::y() }";
        let found = named_paths(&code_only(text));
        let of = |name: &str| found.iter().find(|path| path.contains(name)).map(|path| path.line);
        assert_eq!(of("std::fs"), Some(2));
        assert_eq!(of("std::net::TcpStream"), Some(3));
        assert_eq!(of("std::time"), Some(4));
        assert_eq!(of("x::y"), Some(6));
        assert_eq!(of("std::net::time"), None);
        assert_eq!(of("std::x"), None);
    }

    #[test]
    fn unit_tests_are_found() {
        assert_eq!(unit_tests_start("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"), Some(3));
        assert_eq!(unit_tests_start("#[cfg(test)]\nuse a::b;\nmod c;\n"), None);
    }
}
