//! A short name for what a head does, and the rule that gave it.
//!
//! A rule compares one measure of the head with a threshold. The first that holds, in the order below,
//! names the head. Labels are descriptions, not explanations.

use std::f64::consts::LN_2;

/// The kind of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// Most of the mass goes to the token before.
    PreviousToken,
    /// Most of the mass goes to the token after.
    NextToken,
    /// Most of the mass stays at the query.
    SameToken,
    /// Most of the mass goes to what came after the query's token elsewhere.
    Induction,
    /// Most of the mass goes to other occurrences of the query's token.
    DuplicateToken,
    /// The first token takes most of everybody's mass.
    FirstToken,
    /// Tokens that the tokenizer added take most of it.
    Separator,
    /// The last token takes most of it.
    LastToken,
    /// Punctuation takes most of it.
    Punctuation,
    /// One word within the text takes most of it.
    Sink,
    /// Most of the mass stays near the query.
    Local,
    /// The content hardly narrows the choice.
    Diffuse,
    /// How far the keys are says most of what the posterior knows.
    Positional,
    /// The content decides.
    Content,
    /// None of these.
    Mixed,
}

/// How a measure is compared with a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// It is the threshold or larger.
    AtLeast,
    /// It is the threshold or smaller.
    AtMost,
}

/// Condition on one measure of a head.
#[derive(Clone, Copy, Debug)]
pub struct Condition {
    /// Name of the measure.
    pub measure: &'static str,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what, in the measure's unit.
    pub threshold: f64,
}

/// Rule that gives a label.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The label.
    pub label: Label,
    /// Its name in every output.
    pub name: &'static str,
    /// The rule in words.
    pub words: &'static str,
    /// Condition that must hold; `None` where none must.
    pub condition: Option<Condition>,
    /// Where heads of this kind were described; empty where it is our own word.
    pub source: &'static str,
}

const fn at_least(measure: &'static str, threshold: f64) -> Option<Condition> {
    Some(Condition { measure, comparison: Comparison::AtLeast, threshold })
}

const fn at_most(measure: &'static str, threshold: f64) -> Option<Condition> {
    Some(Condition { measure, comparison: Comparison::AtMost, threshold })
}

/// Where the majority of the mass goes.
const HALF: f64 = 0.5;
const CLARK: &str = "Clark et al. 2019, arXiv 1906.04341";

/// All rules, in the order they are tried.
pub const RULES: [Rule; 15] = [
    Rule {
        label: Label::PreviousToken,
        name: "previous-token",
        words: "at least half of the mass lies on the token before the query",
        condition: at_least("previous_token_mass", HALF),
        source: CLARK,
    },
    Rule {
        label: Label::NextToken,
        name: "next-token",
        words: "at least half of the mass lies on the token after the query",
        condition: at_least("next_token_mass", HALF),
        source: CLARK,
    },
    Rule {
        label: Label::SameToken,
        name: "same-token",
        words: "at least half of the mass stays on the query's own token",
        condition: at_least("same_token_mass", HALF),
        source: CLARK,
    },
    Rule {
        label: Label::Induction,
        name: "induction",
        words: "where the query's token stands elsewhere too, at least half of the mass lies on what \
                comes after it there",
        condition: at_least("induction_mass", HALF),
        source: "Olsson et al. 2022, arXiv 2209.11895",
    },
    Rule {
        label: Label::DuplicateToken,
        name: "duplicate-token",
        words: "where the query's token stands elsewhere too, at least half of the mass lies there",
        condition: at_least("duplicate_token_mass", HALF),
        source: "Wang et al. 2022, arXiv 2211.00593",
    },
    Rule {
        label: Label::FirstToken,
        name: "first-token",
        words: "the first token holds at least half of the mass of all queries",
        condition: at_least("first_token_mass", HALF),
        source: "Xiao et al. 2023, arXiv 2309.17453",
    },
    Rule {
        label: Label::Separator,
        name: "separator",
        words: "tokens that the tokenizer added after the first hold at least half of the mass",
        condition: at_least("separator_mass", HALF),
        source: CLARK,
    },
    Rule {
        label: Label::LastToken,
        name: "last-token",
        words: "the last token holds at least half of the mass of all queries",
        condition: at_least("last_token_mass", HALF),
        source: "",
    },
    Rule {
        label: Label::Punctuation,
        name: "punctuation",
        words: "punctuation holds at least half of the mass of all queries",
        condition: at_least("punctuation_mass", HALF),
        source: CLARK,
    },
    Rule {
        label: Label::Sink,
        name: "sink",
        words: "one word that is neither first nor last holds at least half of the mass of all queries",
        condition: at_least("heaviest_word_mass", HALF),
        source: "Xiao et al. 2023, arXiv 2309.17453",
    },
    Rule {
        label: Label::Local,
        name: "local",
        words: "at least half of the mass lies within 4 tokens of the query",
        condition: at_least("neighbour_mass", HALF),
        source: "",
    },
    Rule {
        label: Label::Diffuse,
        name: "diffuse",
        words: "KL from the prior is at most log 2: of a uniform one at least half the keys stay in \
                play",
        condition: at_most("kl", LN_2),
        source: CLARK,
    },
    Rule {
        label: Label::Positional,
        name: "positional",
        words: "a prior of distance explains at least half of the KL from a flat one",
        condition: at_least("distance_share", HALF),
        source: "",
    },
    Rule {
        label: Label::Content,
        name: "content",
        words: "KL from the best prior of distance with a sink is at least log 2: the keys' content \
                at least halves the choice",
        condition: at_least("content_kl", LN_2),
        source: "",
    },
    Rule {
        label: Label::Mixed,
        name: "mixed",
        words: "none of the other rules holds",
        condition: None,
        source: "",
    },
];

impl Label {
    /// All labels, in the order their rules are tried.
    pub const ALL: [Label; RULES.len()] = {
        let mut all = [Label::Mixed; RULES.len()];
        let mut at = 0;
        while at < all.len() {
            all[at] = RULES[at].label;
            at += 1;
        }
        all
    };

    /// The rule that gives it.
    pub fn definition(self) -> &'static Rule {
        let of_this = |rule: &&Rule| rule.label == self;
        RULES.iter().find(of_this).expect("every label has a rule")
    }

    /// Its name in every output.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// The rule that gives it, in words.
    pub fn rule(self) -> &'static str {
        self.definition().words
    }
}

/// How far a head is from another label: the smallest change of one measure that would give it one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margin {
    /// The change's size, in the measure's own unit.
    pub distance: f64,
    /// Name of the measure.
    pub measure: &'static str,
    /// Label it would have then.
    pub label: Label,
}
