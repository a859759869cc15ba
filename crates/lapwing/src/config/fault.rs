//! What is wrong with a value, in the words of a configuration file.

/// What the error says, with its place in the file. Types of the program become what they are in TOML.
pub(super) fn text(error: &toml::de::Error) -> String {
    let message = error.message();
    let plain = plain(message);
    error.to_string().replace(message, &plain).trim_end().to_owned()
}

/// Serde ends such a message with what it expected.
fn plain(message: &str) -> String {
    let message = message.replace("unknown field", "unknown key").replace("missing field", "missing key");
    if message == "invalid type: unit variant, expected string only" {
        return "expected text".to_owned();
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else { return message };
    let expected = match expected {
        "u8" => "a number from 0 to 255",
        "u16" => "a number from 0 to 65535",
        "u32" => "a number from 0 to 4294967295",
        "u64" | "usize" => "a number from 0",
        "a string" | "path string" => "text",
        "a map" => "a table",
        "a sequence" => "a list",
        _ if expected.starts_with("struct ") => "a table",
        expected => expected,
    };
    format!("{found}, expected {expected}")
}
