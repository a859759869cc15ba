#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lapwing_proto::fuzzing::topic_filter(data));
