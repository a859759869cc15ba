#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lapwing_net::fuzzing::websocket_frames(data));
