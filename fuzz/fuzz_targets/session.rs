//! Sessions with a hostile peer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lapwing_proto::fuzzing::session(data));
