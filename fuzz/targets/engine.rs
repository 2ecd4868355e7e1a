#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| clickhouse_copier::fuzzed::engine(input));
