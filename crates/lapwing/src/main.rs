//! Lapwing, an MQTT platform: broker and command line.

fn main() {}
