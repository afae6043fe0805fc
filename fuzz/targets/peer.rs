// SPDX-License-Identifier: Apache-2.0
//! Target `peer` of `cargo fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(init: ciao_fuzz::be_alone(), |input: &[u8]| ciao_fuzz::peer(input));
