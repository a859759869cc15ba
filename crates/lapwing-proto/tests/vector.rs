//! The packet vectors in `conformance/packet`: bytes, and the packet or the Reason Code that they must give.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use lapwing_proto::packet::{
    Ack, DecodeError, Frame, MAXIMUM_PACKET_SIZE, Packet, ProtocolVersion, ReasonCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

mod summary;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    file: String,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    group: String,
    tests: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    id: Option<String>,
    version: String,
    maximum_packet_size: Option<u32>,
    hex: String,
    expect: Value,
    reencodes: Option<bool>,
    why: Option<String>,
}

/// Every vector, those that fail gathered so that one run shows all of them.
// [attack: long-variable-integer], [attack: invalid-utf-8]
#[test]
fn every_vector_gives_what_it_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/packet");
    let mut failures = Vec::new();
    let mut count = 0;
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        let file: File =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).expect("a file of vectors");
        assert_eq!(path.file_stem().unwrap().to_str(), Some(&*file.file));
        let mut names = HashSet::new();
        for Group { group, tests } in &file.groups {
            for vector in tests {
                assert!(names.insert((group, &vector.name, &vector.version)), "two called {}", vector.name);
                count += 1;
                if let Err(failure) = check(vector) {
                    let (name, version, hex) = (&vector.name, &vector.version, &vector.hex);
                    failures
                        .push(format!("{} / {group} / {name} ({version})\n  {hex}\n  {failure}", file.file));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} of {count} vectors fail:\n{}", failures.len(), failures.join("\n"));
    assert!(count > 2000, "only {count} vectors were found");
}

fn check(vector: &Vector) -> Result<(), String> {
    let id_is_sound = |id: &str| {
        let number = id.strip_prefix("3.1.1 ").unwrap_or(id).strip_prefix("MQTT-");
        number.is_some_and(|number| number.split(['.', '-']).count() == 4)
    };
    if !vector.id.as_ref().is_none_or(|ids| ids.split(", ").all(id_is_sound)) {
        return Err(format!("{:?} are no identifiers of statements", vector.id));
    }
    let bytes = parse_hex(&vector.hex)?;
    let version = match &*vector.version {
        "3.1" => ProtocolVersion::V31,
        "3.1.1" => ProtocolVersion::V311,
        "5.0" => ProtocolVersion::V5,
        other => return Err(format!("there is no version {other}")),
    };
    let maximum_packet_size = vector.maximum_packet_size.unwrap_or(MAXIMUM_PACKET_SIZE);
    let mut input = &bytes[..];
    let packet = match decode(&mut input, version, maximum_packet_size) {
        Ok(Some(packet)) => packet,
        Ok(None) if input == bytes => return compare(&json!({"incomplete": true}), &vector.expect),
        Ok(None) => return Err("bytes were taken off the front of a packet that is not whole".into()),
        Err(error) => return compare(&summarize_error(error, &vector.expect), &vector.expect),
    };
    compare(&summary::packet(&packet), &vector.expect)?;
    if !input.is_empty() {
        return Err(format!("{} bytes are left", input.len()));
    }
    check_encoding(vector, &bytes, &packet, version)
}

fn check_encoding(
    vector: &Vector,
    bytes: &[u8],
    packet: &Packet<'_>,
    version: ProtocolVersion,
) -> Result<(), String> {
    let mut written = Vec::new();
    packet.encode(version, &mut written).map_err(|error| format!("cannot be encoded: {error}"))?;
    match (vector.reencodes.unwrap_or(true), &vector.why) {
        (true, None) if written == bytes => Ok(()),
        (true, None) => Err(format!("encodes to {written:02x?}")),
        (false, Some(_)) if written == bytes => Err("encodes to the same bytes after all".into()),
        (false, Some(_)) => match decode(&mut &written[..], version, MAXIMUM_PACKET_SIZE) {
            Ok(Some(again)) if again == *packet => Ok(()),
            other => Err(format!("encodes to {written:02x?}, which is {other:?}")),
        },
        _ => Err("`reencodes: false` and `why` go together".into()),
    }
}

fn decode<'a>(
    input: &mut &'a [u8],
    version: ProtocolVersion,
    maximum_packet_size: u32,
) -> Result<Option<Packet<'a>>, DecodeError> {
    Frame::split(input, maximum_packet_size)?.map(|frame| Packet::decode(frame, version)).transpose()
}

/// The property at fault is looked at only where the vector names one.
fn summarize_error(error: DecodeError, expect: &Value) -> Value {
    let mut summary = json!({"error": error.reason_code().name()});
    if expect.get("property").is_some() {
        summary["property"] = json!(error.property().map(|property| property.to_string()));
    }
    summary
}

fn compare(actual: &Value, expect: &Value) -> Result<(), String> {
    if actual == expect { Ok(()) } else { Err(format!("expected {expect}\n  but it is {actual}")) }
}

fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    text.split_whitespace()
        .map(|byte| match byte.len() {
            2 => u8::from_str_radix(byte, 16).map_err(|error| error.to_string()),
            _ => Err(format!("{byte:?} is not a byte of two digits")),
        })
        .collect()
}

/// The comparison itself must be able to fail.
#[test]
fn a_wrong_expectation_is_noticed() {
    let vector = |hex: &str, expect: Value| Vector {
        name: String::new(),
        id: None,
        version: "5.0".into(),
        maximum_packet_size: None,
        hex: hex.into(),
        expect,
        reencodes: None,
        why: None,
    };
    let right = json!({"packet": "PUBACK", "packet_id": 10, "reason_code": "0x00"});
    let wrong = json!({"packet": "PUBACK", "packet_id": 11, "reason_code": "0x00"});
    assert_eq!(check(&vector("40 02 00 0a", right.clone())), Ok(()));
    assert!(check(&vector("40 02 00 0a", wrong)).is_err());
    assert!(check(&vector("40 02 00 0a 00", right.clone())).is_err(), "a byte is left");
    assert!(check(&vector("40 03 00 0a 00", right)).is_err(), "it encodes to fewer bytes");
    assert!(check(&vector("40 02 00 00", json!({"error": "malformed packet"}))).is_err());
    let ack = Packet::PubAck(Ack::new(lapwing_proto::packet::PacketId::FIRST, ReasonCode::QuotaExceeded));
    assert_eq!(summary::packet(&ack), json!({"packet": "PUBACK", "packet_id": 1, "reason_code": "0x97"}));
}
