use super::*;
use crate::journal::sampling::Policy;
use proptest::prelude::*;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn good() -> String {
    format!("00-{TRACE}-{SPAN}-01")
}

fn enter(values: &[&str], ratio: f64, forced: u32) -> Context {
    let mut sampler = Sampler::new(Policy {
        ratio,
        forced_per_second: forced,
    });
    let values = values.iter().map(|value| value.as_bytes());
    Context::enter(values, &mut sampler, &mut Ids::seeded([3; 32]), 1)
}

#[test]
fn a_valid_parent_is_read() {
    let parent = Parent::parse(good().as_bytes()).expect("valid");
    assert_eq!(hex(&parent.trace_id), TRACE);
    assert_eq!(hex(&parent.span_id), SPAN);
    assert!(parent.sampled());
    for later in [
        format!("cc-{TRACE}-{SPAN}-01-what"),
        format!("01-{TRACE}-{SPAN}-01"),
        format!("fe-{TRACE}-{SPAN}-01-"),
    ] {
        assert_eq!(Parent::parse(later.as_bytes()), Some(parent), "{later}");
    }
}

#[test]
fn an_invalid_parent_is_none() {
    let good = good();
    for bad in [
        String::new(),
        good[..54].to_owned(),
        format!("{good}-more"),
        format!("{good} "),
        format!(" {good}"),
        format!("{good},{good}"),
        format!("01-{TRACE}-{SPAN}-01more"),
        good.to_uppercase(),
        good.replace("00-", "ff-"),
        good.replace("00-", "0x-"),
        good.replace('-', "_"),
        good.replace("-01", "-0g"),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{}-01", "0".repeat(16)),
        format!("00-{SPAN}-{TRACE}-01"),
        format!("00{TRACE}-{SPAN}-01---"),
    ] {
        assert_eq!(Parent::parse(bad.as_bytes()), None, "{bad}");
    }
}

#[test]
fn two_parents_are_none() {
    let good = good();
    let one = enter(&[&good], 0.0, 10);
    assert_eq!((one.carry, one.sampled), (Carry::Continue, true));
    let two = enter(&[&good, &good], 0.0, 10);
    assert_eq!((two.carry, two.sampled), (Carry::Restart, false));
    assert_ne!(hex(&two.trace_id), TRACE);
}

#[test]
fn the_callers_decision_is_followed_as_far_as_the_bound_allows() {
    let unsampled = good().replace("-01", "-00");
    let passed = enter(&[&unsampled], 1.0, 10);
    assert_eq!((passed.carry, passed.sampled), (Carry::Pass, false));
    assert_eq!(hex(&passed.trace_id), TRACE);
    let bounded = enter(&[&good()], 1.0, 0);
    assert_eq!((bounded.carry, bounded.sampled), (Carry::Pass, false));
    let followed = enter(&[&good()], 0.0, 1);
    assert_eq!(hex(&followed.parent_id), SPAN);
    assert_ne!(followed.span_id, followed.parent_id);
}

#[test]
fn flags_that_nobody_has_defined_end_here() {
    let context = enter(&[&good().replace("-01", "-ff")], 0.0, 1);
    assert_eq!(context.flags, 3);
}

#[test]
fn without_a_parent_the_ratio_decides() {
    for (ratio, sampled) in [(0.0, false), (1.0, true)] {
        let context = enter(&["nonsense"], ratio, 0);
        assert_eq!((context.carry, context.sampled), (Carry::Restart, sampled));
        assert_eq!(context.parent_id, [0; 8]);
        let written = context.traceparent(&context.span_id);
        let read = Parent::parse(&written).expect("what is written can be read");
        assert_eq!(
            (read.trace_id, read.span_id),
            (context.trace_id, context.span_id)
        );
        assert_eq!(read.sampled(), sampled);
    }
}

#[test]
fn children_of_a_span_differ_and_are_found_again() {
    let span = [1, 2, 3, 4, 5, 6, 7, 8];
    let children: std::collections::HashSet<_> = (0..300).map(|n| child_id(&span, n)).collect();
    assert_eq!(children.len(), 300);
    assert!(!children.contains(&span) && !children.contains(&[0; 8]));
    assert_eq!(child_id(&span, 7), child_id(&span, 7));
}

#[test]
fn ids_differ() {
    let mut ids = Ids::new();
    let drawn: std::collections::HashSet<_> = (0..10_000).map(|_| ids.trace_id()).collect();
    assert_eq!(drawn.len(), 10_000);
    assert_ne!(Ids::new().trace_id(), Ids::new().trace_id());
    assert_ne!(Ids::seeded([0; 32]).span_id(), [0; 8]);
}

proptest! {
    #[test]
    fn whatever_is_sent_makes_no_panic_and_only_the_form_is_accepted(
        value in prop::collection::vec(any::<u8>(), 0..80)
    ) {
        if let Some(parent) = Parent::parse(&value) {
            prop_assert!(parent.trace_id != [0; 16] && parent.span_id != [0; 8]);
            prop_assert!(value.len() >= TRACEPARENT_LEN);
        }
    }

    #[test]
    fn one_wrong_byte_in_a_good_value_is_read_as_it_is_or_refused(
        at in 0usize..55, byte in any::<u8>()
    ) {
        let mut value = good().into_bytes();
        value[at] = byte;
        match Parent::parse(&value) {
            None => prop_assert_ne!(value, good().into_bytes()),
            Some(parent) => {
                prop_assert!(matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
                let digits = [hex(&parent.trace_id), hex(&parent.span_id)].join("-");
                prop_assert_eq!(digits.as_bytes(), &value[3..52]);
            }
        }
    }

    #[test]
    fn every_valid_value_is_accepted(
        trace in "[0-9a-f]{31}[1-9a-f]", span in "[0-9a-f]{15}[1-9a-f]", flags in "[0-9a-f]{2}"
    ) {
        let value = format!("00-{trace}-{span}-{flags}");
        prop_assert!(Parent::parse(value.as_bytes()).is_some());
    }
}
