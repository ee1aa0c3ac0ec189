//! A short name for what a head does, and the rule that gave it.
//!
//! Every rule asks where the majority of the mass goes, in the order below; the first that holds
//! names the head. They are descriptions, not explanations.

/// The kind of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// One key takes most of everybody's mass.
    Sink,
    /// Most of the mass goes to the token before.
    PreviousToken,
    /// Most of the mass stays near the query.
    Local,
    /// The content hardly narrows the choice.
    Diffuse,
    /// Far, narrow and varied: the content decides.
    Content,
}

impl Label {
    /// All labels, in the order their rules are tried.
    pub const ALL: [Label; 5] =
        [Label::Sink, Label::PreviousToken, Label::Local, Label::Diffuse, Label::Content];

    /// Its name in every output.
    pub fn name(self) -> &'static str {
        match self {
            Label::Sink => "sink",
            Label::PreviousToken => "previous-token",
            Label::Local => "local",
            Label::Diffuse => "diffuse",
            Label::Content => "content",
        }
    }

    /// The rule that gives it, in words.
    pub fn rule(self) -> &'static str {
        match self {
            Label::Sink => "one key holds at least half of the mass of all queries",
            Label::PreviousToken => "at least half of the mass lies on the token before the query",
            Label::Local => "at least half of the mass lies within 4 tokens of the query",
            Label::Diffuse => {
                "KL from the prior is at most log 2: of a uniform one at least half the keys stay in play"
            }
            Label::Content => "none of the other rules holds: what the keys say decides",
        }
    }
}
