//! Labels of heads: which rule holds, by how much, and how far another label is.

use super::catalogue::MEASURES;
use super::head::HeadMeasures;
use super::label::{Comparison, Condition, Label, Margin, RULES};

/// A label is uncertain where its head is this close to another, in the measure's own unit.
const CLOSE: f64 = 0.05;

impl Condition {
    /// By how much it holds (below 0, by how much it fails), in the measure's unit. NaN where the
    /// measure is.
    pub fn signed_distance(&self, head: &HeadMeasures) -> f64 {
        let measure = MEASURES.iter().find(|measure| measure.name == self.measure);
        let value = (measure.expect("rules name measures of the catalogue").of)(head);
        match self.comparison {
            Comparison::AtLeast => value - self.threshold,
            Comparison::AtMost => self.threshold - value,
        }
    }
}

/// Signed distances of a head's measures from the thresholds of all rules, in the order of
/// [`RULES`]: at 0 or above the rule holds. NaN where a rule compares nothing, or what is NaN.
pub fn signed_distances(head: &HeadMeasures) -> [f64; RULES.len()] {
    RULES.map(|rule| rule.condition.map_or(f64::NAN, |condition| condition.signed_distance(head)))
}

/// Place of the first rule that holds, leaving one out. Measures that are NaN satisfy no rule.
fn first_that_holds(distances: &[f64; RULES.len()], without: Option<usize>) -> usize {
    let holds = |at: &usize| Some(*at) != without && distances[*at] >= 0.0;
    (0..RULES.len()).find(holds).unwrap_or(RULES.len() - 1)
}

/// The label of a head with these measures.
pub fn label_of(head: &HeadMeasures) -> Label {
    RULES[first_that_holds(&signed_distances(head), None)].label
}

/// How far the head is from another label; `None` where no measure can change it.
///
/// A label ends where its own rule fails, or where one that is tried before it begins to hold. Rules read
/// different measures, so that changing one measure moves one rule.
pub fn margin_of(head: &HeadMeasures) -> Option<Margin> {
    let distances = signed_distances(head);
    let own = first_that_holds(&distances, None);
    let change = |at: usize| {
        let condition = RULES[at].condition?;
        let label = match at == own {
            true => RULES[first_that_holds(&distances, Some(own))].label,
            false => RULES[at].label,
        };
        Some(Margin { distance: distances[at].abs(), measure: condition.measure, label })
    };
    (0..=own)
        .filter_map(change)
        .filter(|margin| margin.distance.is_finite())
        .min_by(|a, b| a.distance.total_cmp(&b.distance))
}

/// Whether a small change would give the head another label.
pub fn is_close(head: &HeadMeasures) -> bool {
    margin_of(head).is_some_and(|margin| margin.distance < CLOSE)
}

/// Count of the heads that are close to another label, in words.
pub fn closeness(layers: &[Vec<HeadMeasures>]) -> String {
    let heads = || layers.iter().flatten();
    let close = heads().filter(|head| is_close(head)).count();
    format!("{} heads, {close} of them within {CLOSE} of another label", heads().count())
}

/// Heads of one label, by their numbers layer by layer, with their margins: the largest first, at most
/// `count`.
pub fn clearest(layers: &[Vec<HeadMeasures>], label: Label, count: usize) -> Vec<(usize, f64)> {
    let own = layers.iter().flatten().enumerate().filter(|(_, head)| head.label == label);
    let margin = |head| margin_of(head).map_or(0.0, |margin| margin.distance);
    let mut own: Vec<(usize, f64)> = own.map(|(index, head)| (index, margin(head))).collect();
    own.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    own.truncate(count);
    own
}

#[cfg(test)]
mod tests {
    use super::super::head::tests::head;
    use super::*;

    #[test]
    fn every_rule_reads_a_measure_of_its_own() {
        let measures: Vec<&str> =
            RULES.iter().filter_map(|rule| rule.condition).map(|own| own.measure).collect();
        for (at, measure) in measures.iter().enumerate() {
            assert!(MEASURES.iter().any(|known| known.name == *measure), "{measure}");
            assert!(!measures[..at].contains(measure), "{measure} is read by two rules");
        }
        assert_eq!(measures.len(), RULES.len() - 1, "only the last rule asks nothing");
        assert!(RULES[RULES.len() - 1].condition.is_none());
    }

    /// Changes one measure by a little more and a little less than the margin, and looks.
    #[test]
    fn the_margin_is_the_smallest_change_that_gives_another_label() {
        type Set = fn(&mut HeadMeasures) -> &mut f64;
        let measures: [(&str, Set); 14] = [
            ("previous_token_mass", |head| &mut head.previous_token_mass),
            ("next_token_mass", |head| &mut head.next_token_mass),
            ("same_token_mass", |head| &mut head.same_token_mass),
            ("induction_mass", |head| &mut head.induction_mass),
            ("duplicate_token_mass", |head| &mut head.duplicate_token_mass),
            ("first_token_mass", |head| &mut head.first_token_mass),
            ("separator_mass", |head| &mut head.separator_mass),
            ("last_token_mass", |head| &mut head.last_token_mass),
            ("punctuation_mass", |head| &mut head.punctuation_mass),
            ("heaviest_word_mass", |head| &mut head.heaviest_word_mass),
            ("neighbour_mass", |head| &mut head.neighbour_mass),
            ("kl", |head| &mut head.kl),
            ("distance_share", |head| &mut head.distance_share),
            ("content_kl", |head| &mut head.content_kl),
        ];
        let mut state = 1u64;
        let mut seen = std::collections::HashSet::new();
        for _ in 0..3000 {
            let mut head = head();
            for (name, of) in measures {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let number = (state >> 40) as f64 / (1u64 << 24) as f64;
                // Mostly small, so that every rule has its turn.
                *of(&mut head) = match name {
                    "kl" | "content_kl" => 2.0 * number,
                    "distance_share" => number,
                    _ if number > 0.95 => f64::NAN,
                    _ => 0.62 * number,
                };
            }
            let label = label_of(&head);
            seen.insert(label);
            let margin = margin_of(&head).expect("some measure is a number");
            let mut changes = Vec::new();
            for (name, of) in measures {
                for sign in [-1.0, 1.0] {
                    let moved = |by: f64| {
                        let mut head = head.clone();
                        *of(&mut head) += sign * by;
                        label_of(&head)
                    };
                    assert_eq!(moved(margin.distance - 1e-9), label, "{name} {margin:?}");
                    if moved(margin.distance + 1e-9) != label {
                        changes.push((name, moved(margin.distance + 1e-9)));
                    }
                }
            }
            assert_eq!(changes, [(margin.measure, margin.label)]);
        }
        assert_eq!(seen.len(), RULES.len(), "{seen:?}");
    }

    #[test]
    fn a_head_that_is_nan_throughout_is_mixed_and_has_no_margin() {
        let mut nothing = head();
        for own in [
            &mut nothing.previous_token_mass,
            &mut nothing.next_token_mass,
            &mut nothing.same_token_mass,
            &mut nothing.induction_mass,
            &mut nothing.duplicate_token_mass,
            &mut nothing.first_token_mass,
            &mut nothing.separator_mass,
            &mut nothing.last_token_mass,
            &mut nothing.punctuation_mass,
            &mut nothing.heaviest_word_mass,
            &mut nothing.neighbour_mass,
            &mut nothing.kl,
            &mut nothing.distance_share,
            &mut nothing.content_kl,
        ] {
            *own = f64::NAN;
        }
        assert_eq!((label_of(&nothing), margin_of(&nothing)), (Label::Mixed, None));
    }
}
