#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lapwing_net::fuzzing::proxy_header(data));
