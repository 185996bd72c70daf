//! Packet tables: every program over every kind of frame, and the same frames through the parser on the host, which
//! must agree on slot, class, reason and verdict.

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use voice_agent::kernel::Features;
use voice_common::Hook;
use voice_tests::{
    frame::RTP,
    programs::Programs,
    verdicts::{BLOCKED, EXPIRED, OPEN, PORTS, SHADOW, at, cases, programs, wrappings},
};

#[test]
fn every_wrapping_of_a_datagram_is_understood_by_every_program_and_by_the_host() {
    cases::every_wrapping(&mut programs(Features::detect()), &PORTS);
}

#[test]
fn an_older_kernels_programs_do_the_same() {
    let old = Features {
        tcx: false,
        frags: false,
    };
    cases::every_wrapping(&mut programs(old), &[OPEN, BLOCKED, SHADOW, EXPIRED]);
}

#[test]
fn a_payload_is_classed_by_its_first_two_bytes() {
    cases::payload_classes(&mut programs(Features::detect()), &PORTS);
}

#[test]
fn what_is_not_understood_passes_even_on_a_blocked_port_and_its_reason_is_counted() {
    cases::not_understood(&mut programs(Features::detect()));
}

#[test]
fn a_frame_cut_off_at_any_length_passes_until_its_udp_header_is_whole() {
    let mut programs = programs(Features::detect());
    for (what, build) in wrappings() {
        for hook in Hook::ALL {
            let whole = at(hook, BLOCKED, &|s, d| build(s, d, RTP));
            let headers = whole.len() - RTP.len();
            for len in 0..=whole.len() {
                let cut = &whole[..len];
                assert_eq!(
                    programs.judge(hook, cut).is_ok(),
                    len >= headers,
                    "{what} cut to {len}"
                );
                if !Programs::runs(hook, cut) {
                    continue;
                }
                let seen = programs.outcome(hook, cut).unwrap();
                assert_eq!(
                    seen,
                    programs.expected(hook, cut),
                    "{what} cut to {len} at {}",
                    hook.name()
                );
                assert_eq!(
                    seen.dropped,
                    len >= headers,
                    "{what} cut to {len} at {}",
                    hook.name()
                );
            }
        }
    }
}

#[test]
fn the_kill_switch_comes_before_every_drop_and_changes_nothing_else() {
    cases::kill_switch(&mut programs(Features::detect()));
}

#[test]
fn the_peers_port_never_decides() {
    cases::peers_port(&mut programs(Features::detect()));
}

#[test]
fn a_verdict_ends_by_itself_at_its_deadline() {
    cases::deadline(&mut programs(Features::detect()));
}

#[test]
fn the_verifier_needs_few_instructions() {
    for features in [
        Features::detect(),
        Features {
            tcx: false,
            frags: false,
        },
    ] {
        let counts = Programs::load(features).unwrap().verified().unwrap();
        for (program, instructions) in counts {
            println!("{program}: {instructions}");
            assert!(
                instructions < 50_000,
                "{program}: {instructions} verified instructions"
            );
        }
    }
}

/// Frames near the understood ones: a well-formed frame, a few bytes changed, cut off somewhere.
fn nearly_right() -> impl Strategy<Value = Vec<u8>> {
    let wrapping = (0..wrappings().len()).no_shrink();
    let ports = (prop::sample::select(&PORTS[..]), prop::sample::select(&PORTS[..]));
    let changes = vec((0_usize..90, any::<u8>()), 0..4);
    (wrapping, ports, changes, 0.1_f64..1.2).prop_map(|(which, (src, dst), changes, keep)| {
        let mut bytes = wrappings()[which].1(src, dst, RTP).bytes;
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let keep = (bytes.len() as f64 * keep) as usize;
        bytes.truncate(keep);
        bytes
    })
}

#[test]
fn kernel_and_host_agree_on_whatever_comes() {
    let mut programs = programs(Features::detect());
    let frames = prop_oneof![3 => nearly_right(), 1 => vec(any::<u8>(), 0..200)];
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let programs = std::cell::RefCell::new(&mut programs);
    let agree = |frame: Vec<u8>| {
        let mut programs = programs.borrow_mut();
        for hook in Hook::ALL.into_iter().filter(|hook| Programs::runs(*hook, &frame)) {
            let seen = programs
                .outcome(hook, &frame)
                .map_err(|e| TestCaseError::fail(format!("{e:#}")))?;
            prop_assert_eq!(seen, programs.expected(hook, &frame), "at {}", hook.name());
        }
        Ok(())
    };
    runner.run(&frames, agree).unwrap();
}
