//! Any bytes as packets of any version.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lapwing_proto::fuzzing::decode(data));
